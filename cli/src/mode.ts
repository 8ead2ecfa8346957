/**
 * Permission bits as chmod reads them: octal (`644`, `u=rwx` in digits up to 7777) or symbolic (`u+x,go-w`, `a=rX`).
 * Symbolic modes follow POSIX chmod without a umask: a missing who means all.
 */
import { CollectiveError } from '@collective/base/errors';

export const MODE_MAX = 0o7777;

export function parseMode(text: string): number {
  if (!/^[0-7]{1,4}$/.test(text)) {
    throw new CollectiveError(
      'invalid_argument',
      `Read '${text}' as a mode: it is one to four octal digits, as in 644`,
    );
  }
  return Number.parseInt(text, 8);
}

/** How a mode changes: a function of what it was, since symbolic modes are relative. */
export type ModeChange = (mode: number, isDirectory: boolean) => number;

export function parseModeChange(text: string): ModeChange {
  if (/^[0-7]{1,4}$/.test(text)) return () => Number.parseInt(text, 8);
  const steps = text.split(',').map((clause) => parseClause(clause, text));
  return (mode, isDirectory) => steps.reduce((now, step) => step(now, isDirectory), mode);
}

const SHIFTS = { u: 6, g: 3, o: 0 } as const;
const SPECIAL = { u: 0o4000, g: 0o2000, o: 0 } as const;

function parseClause(clause: string, whole: string): ModeChange {
  const match = /^([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)$/.exec(clause);
  if (match === null) {
    throw new CollectiveError(
      'invalid_argument',
      `Read '${whole}' as a mode: it is octal as in 644, or symbolic as in u+x,go-w`,
    );
  }
  const [, who = '', actions = ''] = match;
  const classes = (['u', 'g', 'o'] as const).filter((one) => who === '' || who.includes('a') || who.includes(one));
  const everybody = who === '' || who.includes('a');
  return (mode, isDirectory) => {
    let now = mode;
    for (const [, operator, letters = ''] of actions.matchAll(/([-+=])([ugo]|[rwxXst]*)/g)) {
      let bits = 0;
      let cleared = 0;
      for (const one of classes) {
        bits |= bitsOf(letters, now, isDirectory) << SHIFTS[one];
        cleared |= (7 << SHIFTS[one]) | SPECIAL[one];
        if (letters.includes('s')) bits |= SPECIAL[one];
      }
      if (letters.includes('t') && (everybody || classes.includes('o'))) bits |= 0o1000;
      if (everybody) cleared |= 0o1000;
      if (operator === '+') now |= bits;
      else if (operator === '-') now &= ~bits;
      else now = (now & ~cleared) | bits;
    }
    return now & MODE_MAX;
  };
}

function bitsOf(letters: string, mode: number, isDirectory: boolean): number {
  const copied = { u: 6, g: 3, o: 0 }[letters];
  if (copied !== undefined) return (mode >> copied) & 7;
  const anyExecute = isDirectory || (mode & 0o111) !== 0;
  return (
    (letters.includes('r') ? 4 : 0) |
    (letters.includes('w') ? 2 : 0) |
    (letters.includes('x') || (letters.includes('X') && anyExecute) ? 1 : 0)
  );
}
