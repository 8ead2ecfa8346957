/**
 * Rows of data in any of the formats. Rows are taken as they come: a directory of a million entries is printed in
 * bounded memory. A table's column widths are fixed by the first rows; a longer cell further down pushes its line.
 *
 * The columns are the same on a terminal and in a pipe, so that a script sees what its author saw.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { stringify as toYaml } from 'yaml';
import { type Shell, writeOut } from '../shell.ts';
import { BatchedOut } from './batched-out.ts';
import type { Format } from './format.ts';
import { printable } from './printable.ts';

export type Printing = Pick<Shell, 'stdout' | 'clock'>;

export interface Column<Row> {
  readonly header: string;
  readonly cell: (row: Row) => string;
  /** Shown with `-o wide` only. */
  readonly wide?: boolean;
  readonly align?: 'left' | 'right';
  /** Instead of `cell` where one row is shown by itself. */
  readonly alone?: (row: Row) => string;
}

export interface RowsView<Row> {
  readonly columns: readonly Column<Row>[];
  /** One line for `-o name`. */
  readonly name: (row: Row) => string;
  /** What JSON and YAML show; default: the row itself. */
  readonly object?: (row: Row) => unknown;
  readonly headers?: boolean;
}

/** Rows that fix the widths of a table: the first so many, or those that came before the first had to be shown. */
const WIDTH_ROWS = 500;
/** Rows may come one by one, as those of a search or of events that are followed. */
const SHOWN_WITHIN_MS = 200;
const GAP = '   ';
const ASCII = /^[ -~]*$/;

export async function printRows<Row>(
  shell: Printing,
  format: Format,
  rows: AsyncIterable<Row> | Iterable<Row>,
  view: RowsView<Row>,
  beforeWrite?: () => void,
): Promise<void> {
  const object = view.object ?? ((row: Row): unknown => row);
  const out = new BatchedOut(shell, beforeWrite);
  try {
    switch (format) {
      case 'json':
        await printJsonRows(out, rows, object);
        break;
      case 'yaml':
        await printYamlRows(out, rows, object);
        break;
      case 'name':
        for await (const row of rows) await out.add(`${nameFor(shell, view.name(row))}\n`);
        break;
      default:
        await printTable(out, shell.clock, format === 'wide', rows, view);
    }
  } finally {
    // What came before a failure is shown.
    await out.flush();
  }
}

/** In a pipe a name is what it is; on a terminal it must not command. */
export function nameFor({ stdout }: Printing, name: string): string {
  return stdout.isTTY ? printable(name) : name;
}

/** One thing: a JSON object, a YAML document, its name, or lines `key: value`. */
export async function printOne<Row>(
  shell: Printing,
  format: Format,
  row: Row,
  view: Omit<RowsView<Row>, 'headers'>,
): Promise<void> {
  const object = view.object ?? ((one: Row): unknown => one);
  switch (format) {
    case 'json':
      return await writeOut(shell.stdout, `${JSON.stringify(object(row), undefined, 2)}\n`);
    case 'yaml':
      return await writeOut(shell.stdout, toYaml(object(row)));
    case 'name':
      return await writeOut(shell.stdout, `${nameFor(shell, view.name(row))}\n`);
    default: {
      const shown = view.columns.filter((column) => format === 'wide' || !column.wide);
      const width = Math.max(...shown.map(({ header }) => header.length));
      await writeOut(
        shell.stdout,
        shown
          .map(
            ({ header, cell, alone = cell }) => `${`${labelOf(header)}:`.padEnd(width + 2)}${printable(alone(row))}\n`,
          )
          .join(''),
      );
    }
  }
}

/** `INODE QUOTA` of a table is `Inode quota` before a single value; short names (`URI`) stay. */
function labelOf(header: string): string {
  const shouted = header.length > 3 && header === header.toUpperCase();
  return shouted ? header.charAt(0) + header.slice(1).toLowerCase() : header;
}

async function printTable<Row>(
  out: BatchedOut,
  clock: Clock,
  wide: boolean,
  rows: AsyncIterable<Row> | Iterable<Row>,
  view: RowsView<Row>,
): Promise<void> {
  const columns = view.columns.filter((column) => wide || !column.wide);
  const headers = columns.map(({ header }) => header);
  let waiting: string[][] = [];
  let widths: number[] | undefined;
  let widthOf = (cell: string): number => cell.length;
  const line = (cells: readonly string[]): string =>
    `${cells
      .map((cell, i) => {
        const space = ' '.repeat(Math.max(0, (widths?.[i] ?? 0) - widthOf(cell)));
        if (columns[i]?.align === 'right') return space + cell;
        return i === cells.length - 1 ? cell : cell + space;
      })
      .join(GAP)
      .trimEnd()}\n`;
  let writing: Promise<void> = Promise.resolve();
  const flush = (): Promise<void> => {
    const rows = waiting;
    waiting = [];
    writing = writing.then(() => write(rows));
    return writing;
  };
  const write = async (rows: readonly string[][]): Promise<void> => {
    // Cells of wide or combining letters are rare, and measuring them costs 20 ms to load.
    if (rows.some((cells) => cells.some((cell) => !ASCII.test(cell)))) {
      widthOf = (await import('string-width')).default;
    }
    widths ??= headers.map((header, i) =>
      Math.max(view.headers === false ? 0 : header.length, ...rows.map((cells) => widthOf(cells[i] ?? ''))),
    );
    if (rows.length > 0) await out.add(rows.map(line).join(''));
  };
  let due: Timer | undefined;
  try {
    let isFirst = view.headers !== false;
    for await (const row of rows) {
      if (isFirst) waiting.push(headers);
      isFirst = false;
      waiting.push(columns.map((column) => printable(column.cell(row))));
      if (waiting.length >= WIDTH_ROWS) await flush();
      // Its failure is met by the next that waits for it.
      else
        due ??= clock.setTimer(SHOWN_WITHIN_MS, () => {
          due = undefined;
          flush().catch(() => undefined);
        });
    }
    // Nothing is shown as nothing, but for what has failed.
    if (isFirst) waiting.push(headers);
  } finally {
    due?.cancel();
    await flush();
  }
}

async function printJsonRows<Row>(
  out: BatchedOut,
  rows: AsyncIterable<Row> | Iterable<Row>,
  object: (row: Row) => unknown,
): Promise<void> {
  let first = true;
  for await (const row of rows) {
    const text = JSON.stringify(object(row), undefined, 2).replaceAll('\n', '\n  ');
    await out.add(`${first ? '[' : ','}\n  ${text}`);
    first = false;
  }
  await out.add(first ? '[]\n' : '\n]\n');
}

async function printYamlRows<Row>(
  out: BatchedOut,
  rows: AsyncIterable<Row> | Iterable<Row>,
  object: (row: Row) => unknown,
): Promise<void> {
  let first = true;
  for await (const row of rows) {
    await out.add(toYaml([object(row)]));
    first = false;
  }
  if (first) await out.add('[]\n');
}
