/** Five fields of a schedule as a regular expression, held to what the CronJob controller reads: numbers within range, no 7 for Sunday. */
const MINUTE = '[0-5]?[0-9]';
const HOUR = '1?[0-9]|2[0-3]';
const DAY = '0?[1-9]|[12][0-9]|3[01]';
const MONTH = '0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC';
const WEEKDAY = '[0-6]|SUN|MON|TUE|WED|THU|FRI|SAT';

const FIELDS = [MINUTE, HOUR, DAY, MONTH, WEEKDAY].map(field).join(' ');

export const CRON = `^(@(hourly|daily|weekly|monthly)|${FIELDS})$`;

/** A list of values, ranges and steps. */
function field(value: string): string {
  const part = `([*]|(${value})(-(${value}))?)(/[1-9][0-9]?)?`;
  return `${part}(,${part})*`;
}
