// Numbers as people read them.

const SPACE = "\u202f";

/** 1234567 as 1 234 567. */
export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, SPACE);
}

/** A count in four characters or so: 1.2k, 34M. */
export function short(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= size) return `${digits(number / size)}${unit}`;
  }
  return String(Math.round(number));
}

/** A part of a whole; what is not nothing is never shown as nothing. */
export function share(part, whole) {
  if (!whole) return "–";
  const percent = (100 * part) / whole;
  if (percent === 0) return "0%";
  if (percent < 0.01) return "<0.01%";
  if (percent > 99.99 && percent < 100) return ">99.99%";
  if (percent < 1) return `${percent.toFixed(2)}%`;
  return percent < 10 && percent !== Math.round(percent) ? `${percent.toFixed(1)}%` : `${Math.round(percent)}%`;
}

/** Seconds with a unit that fits; `isRound` ones have no digits that say nothing. */
export function time(seconds, isRound = false) {
  if (seconds == null) return "–";
  // What rounds to 1000 µs is 1 ms.
  const [unit, size] = seconds < 0.9995e-3 ? ["µs", 1e6] : seconds < 0.9995 ? ["ms", 1e3] : ["s", 1];
  const number = isRound ? String(Number((seconds * size).toPrecision(3))) : digits(seconds * size);
  return `${number}${SPACE}${unit}`;
}

/** How much longer than before, with its sign. */
export function change(before, after) {
  if (before == null || after == null || before === 0) return "–";
  const percent = Math.round((100 * (after - before)) / before);
  if (Math.abs(percent) >= 1000) return `×${digits(after / before)}`;
  return `${percent > 0 ? "+" : percent < 0 ? "−" : "±"}${Math.abs(percent)}%`;
}

/** A run's time: 1:02:03. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Octets with a binary unit. */
export function bytes(number) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${digits(number / size)}${SPACE}${unit}`;
  }
  return `${number}${SPACE}B`;
}

function digits(number) {
  if (number >= 100) return number.toFixed(0);
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}
