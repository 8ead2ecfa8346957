/**
 * Rows of data in any of the formats. Rows are taken as they come: a directory of a million entries is printed in
 * bounded memory. A table's column widths are fixed by the first rows; a longer cell further down pushes its line.
 *
 * The columns are the same on a terminal and in a pipe, so that a script sees what its author saw.
 */
import type { Writable } from 'node:stream';
import { stringify as toYaml } from 'yaml';
import { writeOut } from '../shell.ts';
import type { Format } from './format.ts';

export interface Column<Row> {
  readonly header: string;
  readonly cell: (row: Row) => string;
  /** Shown with `-o wide` only. */
  readonly wide?: boolean;
  readonly align?: 'left' | 'right';
}

export interface RowsView<Row> {
  readonly columns: readonly Column<Row>[];
  /** One line for `-o name`. */
  readonly name: (row: Row) => string;
  /** What JSON and YAML show; default: the row itself. */
  readonly object?: (row: Row) => unknown;
  readonly headers?: boolean;
}

/** Rows that fix the widths of a table. */
const WIDTH_ROWS = 500;
const GAP = '   ';
const ASCII = /^[ -~]*$/;

export async function printRows<Row>(
  out: Writable,
  format: Format,
  rows: AsyncIterable<Row> | Iterable<Row>,
  view: RowsView<Row>,
): Promise<void> {
  const object = view.object ?? ((row: Row): unknown => row);
  switch (format) {
    case 'json':
      return await printJsonRows(out, rows, object);
    case 'yaml':
      return await printYamlRows(out, rows, object);
    case 'name':
      for await (const row of rows) await writeOut(out, `${view.name(row)}\n`);
      return;
    default:
      return await printTable(out, format === 'wide', rows, view);
  }
}

/** One thing: a JSON object, a YAML document, its name, or lines `key: value`. */
export async function printOne<Row>(
  out: Writable,
  format: Format,
  row: Row,
  view: Omit<RowsView<Row>, 'headers'>,
): Promise<void> {
  const object = view.object ?? ((one: Row): unknown => one);
  switch (format) {
    case 'json':
      return await writeOut(out, `${JSON.stringify(object(row), undefined, 2)}\n`);
    case 'yaml':
      return await writeOut(out, toYaml(object(row)));
    case 'name':
      return await writeOut(out, `${view.name(row)}\n`);
    default: {
      const shown = view.columns.filter((column) => format === 'wide' || !column.wide);
      const width = Math.max(...shown.map(({ header }) => header.length));
      await writeOut(
        out,
        shown.map(({ header, cell }) => `${`${labelOf(header)}:`.padEnd(width + 2)}${printable(cell(row))}\n`).join(''),
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
  out: Writable,
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
  const flush = async (): Promise<void> => {
    // Cells of wide or combining letters are rare, and measuring them costs 20 ms to load.
    if (waiting.some((cells) => cells.some((cell) => !ASCII.test(cell)))) {
      widthOf = (await import('string-width')).default;
    }
    widths ??= headers.map((header, i) =>
      Math.max(view.headers === false ? 0 : header.length, ...waiting.map((cells) => widthOf(cells[i] ?? ''))),
    );
    if (waiting.length > 0) await writeOut(out, waiting.map(line).join(''));
    waiting = [];
  };
  if (view.headers !== false) waiting.push(headers);
  for await (const row of rows) {
    waiting.push(columns.map((column) => printable(column.cell(row))));
    if (waiting.length >= WIDTH_ROWS) await flush();
  }
  await flush();
}

async function printJsonRows<Row>(
  out: Writable,
  rows: AsyncIterable<Row> | Iterable<Row>,
  object: (row: Row) => unknown,
): Promise<void> {
  let first = true;
  for await (const row of rows) {
    const text = JSON.stringify(object(row), undefined, 2).replaceAll('\n', '\n  ');
    await writeOut(out, `${first ? '[' : ','}\n  ${text}`);
    first = false;
  }
  await writeOut(out, first ? '[]\n' : '\n]\n');
}

async function printYamlRows<Row>(
  out: Writable,
  rows: AsyncIterable<Row> | Iterable<Row>,
  object: (row: Row) => unknown,
): Promise<void> {
  let first = true;
  for await (const row of rows) {
    await writeOut(out, toYaml([object(row)]));
    first = false;
  }
  if (first) await writeOut(out, '[]\n');
}

/** A name may hold line breaks and terminal escapes; in a table they are shown, not obeyed. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (char) => {
    if (char === '\n') return '\\n';
    if (char === '\t') return '\\t';
    if (char === '\r') return '\\r';
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
