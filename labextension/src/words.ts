/** Values as short text. Pure. */

const MOST = 300; // characters of one value that are shown
const MOST_LINES = 2000; // of one text
const LONGEST = 2000; // characters of one line

// Controls would break a line or turn its direction around; they are shown as what they are.
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Make a text from a store fit to stand in a line: of bounded length, and without signs that nobody sees. */
export function plain(text: string, most = MOST): string {
  const whole = typeof text === 'string' ? text : (JSON.stringify(text) ?? ''); // stores keep what they are given
  const shown = whole.slice(0, most).replace(CONTROLS, '\ufffd');
  return whole.length > most ? `${shown}…` : shown;
}

/** Make a text of many lines fit to be shown: so many of them, each of bounded length. */
export function lines(text: string): string {
  const all = text.split('\n');
  const shown = all.slice(0, MOST_LINES).map(line => plain(line, LONGEST));
  return [...shown, ...(all.length > MOST_LINES ? ['…'] : [])].join('\n');
}

/** Whether a text is what is seen of it: of bounded length, without signs that nobody sees. */
export function isPlain(text: string, most = text.length): boolean {
  return plain(text, most) === text;
}

/** Whether a text is what is seen of it, and stays one line wherever it is put; Python ends lines at more signs. */
export function isOneLine(text: string): boolean {
  return isPlain(text) && !/[\t\n\u2028\u2029]/.test(text);
}

/** What a record holds under a name; what every object has of its own accord, such as `constructor`, does not count. */
export function own<T>(of: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.prototype.hasOwnProperty.call(of, name) ? of[name] : undefined;
}

/** Show one value as short text. */
export function cell(value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  if (typeof value === 'boolean') {
    return value ? 'yes' : 'no';
  }
  if (typeof value === 'number') {
    return number(value);
  }
  if (typeof value === 'string') {
    return isTime(value) ? time(value) : plain(value);
  }
  if (Array.isArray(value)) {
    return plain(value.slice(0, 20).map(cell).join(', '));
  }
  const entries = Object.entries(value as object).slice(0, 20);
  return plain(entries.map(([name, each]) => `${name} ${cell(each)}`).join(', '));
}

/** Show a number with four significant digits; whole ones with all of theirs. */
export function number(value: number | string | null | undefined): string {
  if (typeof value !== 'number') {
    return plain(value ?? '');
  }
  if (Number.isInteger(value)) {
    return value.toLocaleString('en');
  }
  const [size, digits] = [Math.abs(value), Number(value.toPrecision(4))];
  return size >= 1e4 || size < 1e-4 ? digits.toExponential(2) : String(digits);
}

/** Word how long ago a moment was. */
export function ago(moment: string | null | undefined, now = Date.now()): string {
  return moment ? `${lasted(Math.max(0, (now - Date.parse(moment)) / 1000))} ago` : '';
}

/** Word a time that is to come. */
export function ahead(moment: string, now = Date.now()): string {
  const seconds = (Date.parse(moment) - now) / 1000;
  return seconds > 0 ? `in ${lasted(seconds)}` : 'now';
}

/** Word a number of seconds in its largest unit. */
export function lasted(seconds: number | string | null | undefined): string {
  if (typeof seconds !== 'number') {
    return '';
  }
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  const [unit, size] = UNITS.find(([, each]) => seconds >= each * 1.5) ?? UNITS[UNITS.length - 1];
  return `${Math.round(seconds / size)} ${unit}`;
}

/** Show a moment in the browser's own zone. */
export function time(moment: string): string {
  const at = new Date(moment);
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Word a field's name. */
export function words(name: string): string {
  return plain(name, 80).replace(/_s$/, ' (s)').replace(/_at$/, '').replace(/_/g, ' ');
}

/** Whether a metric of this name is better when it is lower. */
export function isLowerBetter(metric: string): boolean {
  return /loss|error|err$|rmse|mae|mse|mape|brier|logloss|latency|_ms$|_s$/i.test(metric);
}

const UNITS: readonly (readonly [string, number])[] = [
  ['days', 86400],
  ['h', 3600],
  ['min', 60],
  ['s', 1]
];

function isTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(text) && !Number.isNaN(Date.parse(text));
}
