/** `collective du`: what each directory occupies, counted by the coordinator, deepest first as du prints it. */

import { formatByteSize } from '@collective/base/byte-size';
import type { Files, UsageTotals } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { pathsOrRoot } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { flag, verb, wholeNumber } from '../verb.ts';

interface DuOptions {
  readonly human?: boolean;
  readonly summarize?: boolean;
  readonly apparentSize?: boolean;
  readonly maxDepth?: number;
}

type DuRow = UsageTotals & { readonly path: string };

const DEPTH_DEFAULT = 1;
const DEPTH_MAX = 1_000;

export function duCommand(shell: Shell): Command {
  return verb('du', {
    summary: 'show what directories occupy',
    description:
      'Counts stored bytes before replication; --apparent-size counts what readers see. One level is shown unless -s or -d says otherwise.',
    examples: [
      { line: 'collective du -h /photos', says: 'each directory in it, then the sum' },
      { line: 'collective du -sh /photos /music', says: 'sums only' },
      { line: 'collective du -h -d 3 /', says: 'three levels' },
    ],
    without: ['help-letter'],
  })
    .argument('[path...]', 'directories; default: /')
    .option('-h, --human', 'print sizes as 1.5 GiB')
    .option('-s, --summarize', 'sums only')
    .option('--apparent-size', 'count what readers see')
    .option('-d, --max-depth <n>', 'levels to show', flag(wholeNumber('--max-depth', 0, DEPTH_MAX)))
    .action(async (paths: string[], options: DuOptions, command: Command) => {
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const failures = new Failures(shell, globals, signal);
        const depth = options.summarize ? 0 : (options.maxDepth ?? DEPTH_DEFAULT);
        const rows = async function* (): AsyncGenerator<DuRow> {
          const wanted = pathsOrRoot(paths);
          for (const path of wanted) {
            yield* failures.skim(deepestFirst(files, path, depth, signal), { alone: wanted.length === 1 });
          }
        };
        await printRows(shell, globals.output, rows(), view(options));
        failures.end();
      });
    });
}

async function* deepestFirst(files: Files, path: string, depth: number, signal: AbortSignal): AsyncGenerator<DuRow> {
  const { type } = await files.lstat(path, { signal });
  if (depth > 0 && type === 'directory') {
    for await (const entry of files.list(path, { signal, attributes: false })) {
      if (entry.type === 'directory') yield* deepestFirst(files, entry.path, depth - 1, signal);
    }
  }
  yield { path, ...(await files.usage(path, { signal })) };
}

function view({ human, apparentSize }: DuOptions): RowsView<DuRow> {
  const bytes = (row: DuRow): number => (apparentSize ? row.bytes : row.storedBytes);
  return {
    columns: [
      { header: 'SIZE', cell: (row) => (human ? formatByteSize(bytes(row)) : String(bytes(row))), align: 'right' },
      { header: 'FILES', cell: (row) => String(row.files), align: 'right', wide: true },
      { header: 'PATH', cell: ({ path }) => path },
    ],
    name: ({ path }) => path,
    headers: false,
    object: ({ path, files, directories, bytes: size, storedBytes }) => ({
      path,
      files,
      directories,
      bytes: size,
      storedBytes,
    }),
  };
}
