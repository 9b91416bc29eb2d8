"""How a notebook's cells are executed: the process, what it sends, what is kept of it; runs are not its business."""
