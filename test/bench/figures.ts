/** Figures of a benchmark run: named, with unit, the goal beside them, as a table for people and one line of JSON for programs. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What was asked for, in the same unit; a figure that only serves as a mark has none. */
  readonly goal?: number;
  /** The goal of a figure that is the better the smaller it is. */
  readonly atMost?: number;
  readonly note?: string;
}

export class Figures {
  readonly #figures: Figure[] = [];

  add(figure: Figure): void {
    this.#figures.push(figure);
    console.log(line(figure));
  }

  toJson(suite: string): string {
    return JSON.stringify({ suite, figures: this.#figures });
  }
}

function line({ name, value, unit, goal, atMost, note }: Figure): string {
  const verdict = (met: boolean): string => (met ? 'met' : 'MISSED');
  const least = goal === undefined ? '' : `  goal ${show(goal)}  ${verdict(value >= goal)}`;
  const most = atMost === undefined ? '' : `  at most ${show(atMost)}  ${verdict(value <= atMost)}`;
  const against = least + most;
  return `${name.padEnd(52)} ${show(value).padStart(10)} ${unit.padEnd(8)}${against}${note === undefined ? '' : `  (${note})`}`;
}

function show(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export async function secondsOf(act: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await act();
  return (performance.now() - began) / 1000;
}

/** Keeps `depth` of `count` tasks under way; answers tasks per second. */
export async function rateAtDepth(depth: number, count: number, act: (i: number) => Promise<unknown>): Promise<number> {
  let next = 0;
  const seconds = await secondsOf(() =>
    Promise.all(
      Array.from({ length: depth }, async () => {
        while (next < count) await act(next++);
      }),
    ),
  );
  return count / seconds;
}
