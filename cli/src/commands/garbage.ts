/** `collective garbage`: what nothing names any more, and when its room is given back. */
import { formatByteSize } from '@collective/base/byte-size';
import type { Clock } from '@collective/base/clock';
import { formatDurationMs, parseDurationMs } from '@collective/base/duration';
import type { GarbageChunk, GarbageStatus, OrphanChunk } from '@collective/client';
import type { Command } from 'commander';
import { ExitWith } from '../exit-with.ts';
import { type AdminSession, withAdmin } from '../member-session.ts';
import { counted } from '../output/counted.ts';
import { Progress } from '../output/progress.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import { age, isoTime } from '../output/time.ts';
import { type Shell, writeOut } from '../shell.ts';
import { flag, noun, verb } from '../verb.ts';

const SECOND_MS = 1_000;
/** As for all that may succeed when it is tried again. */
const EXIT_UNFINISHED = 5;

export function garbageCommand(shell: Shell): Command {
  const status = verb('status', {
    summary: 'show how much garbage there is, and what waits for what',
    examples: [
      { line: 'collective garbage status', says: 'one look' },
      { line: 'collective garbage status -o wide', says: 'with what the last comparison of each node found' },
      { line: 'collective garbage status -o json', says: 'for programs' },
    ],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      await printOne(shell, globals.output, await admin.garbage({ signal }), statusView(shell.clock));
    });
  });

  const collect = verb('collect', {
    summary: 'give the room of what nothing names back now',
    description:
      'What was removed less than the grace time ago stays, unless --grace says otherwise: a backup from before may still name it, and\n' +
      'restoring that backup would miss it. Nodes give the room back at once, all that they have; with --wait\nthe command ends when they have, with exit code 5 if one of them could not. `collective maintenance set garbage-grace=...` changes the grace time for good.',
    examples: [
      { line: 'collective garbage collect --wait', says: 'all that is older than the grace time' },
      {
        line: 'collective garbage collect --grace 0s --dry-run',
        says: 'list what would go if there were no grace time',
      },
      { line: 'collective garbage collect --grace 0s --wait', says: 'everything that was removed until now' },
    ],
  })
    .option('--grace <duration>', "keep what is younger, e.g. 0s or 2h (default: the member's own)", flag(graceSeconds))
    .option('-n, --dry-run', 'only list what would go')
    .option('-w, --wait', 'return when it is done')
    .action(async (options: { grace?: number; dryRun?: boolean; wait?: boolean }, command: Command) => {
      await withAdmin(shell, command, async (session) => {
        const { admin, globals, signal } = session;
        const { grace, dryRun, wait = false } = options;
        if (dryRun) {
          const listed = new Sum(admin.dueGarbage({ graceSeconds: grace }, { signal }));
          await printRows(shell, globals.output, listed, dueView(shell.clock));
          if (!globals.quiet) await writeOut(shell.stderr, `${listed.text} would be collected\n`);
          return;
        }
        const before = await admin.garbage({ signal });
        const after = await collectGarbage(shell, session, grace, wait);
        const unfinished = wait ? after.compactions.filter(({ state }) => state === 'unfinished') : [];
        if (globals.output !== 'table' && globals.output !== 'wide')
          await printOne(shell, globals.output, after, statusView(shell.clock));
        else {
          const chunks = after.collectedChunks - before.collectedChunks;
          const bytes = formatByteSize(after.collectedBytes - before.collectedBytes);
          const text = wait
            ? `collected ${counted(chunks, 'chunk')}, ${bytes} on all nodes together`
            : 'the collection has begun';
          await writeOut(shell.stdout, `${text}\n`);
          if (wait && !globals.quiet)
            for (const { node, reason } of after.waitsFor)
              await writeOut(shell.stderr, `node ${node} is told later: ${reason}\n`);
          for (const { node, reason } of unfinished)
            await writeOut(shell.stderr, `node ${node} has not given all room back: ${reason}\n`);
        }
        if (unfinished.length > 0) throw new ExitWith(EXIT_UNFINISHED);
      });
    });

  const orphans = verb('orphans', {
    summary: 'list chunks on nodes that nothing names',
    description:
      'Uploads that were given up, copies that a repair left behind, copies on a node that came back after it was given up. They are kept for\n' +
      'the grace time of garbage, but at least an hour, and go by themselves.',
    examples: [
      { line: 'collective garbage orphans', says: 'node, chunk and since when' },
      { line: 'collective garbage orphans -o json', says: 'for programs' },
    ],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      await printRows(shell, globals.output, admin.orphans({ signal }), orphanView(shell.clock));
    });
  });
  return noun(
    'garbage',
    'see and collect what nothing names any more',
    [status, collect, orphans],
    [
      { line: 'collective garbage status', says: 'what waits, and for what' },
      { line: 'collective garbage collect --wait', says: 'give the room back now' },
    ],
  );
}

async function collectGarbage(
  shell: Shell,
  { admin, globals, signal }: AdminSession,
  graceSeconds: number | undefined,
  wait: boolean,
): Promise<GarbageStatus> {
  const progress = new Progress(shell, { quiet: globals.quiet });
  let totalBytes = 0;
  const onProgress = ({ compactions }: GarbageStatus): void => {
    const leftBytes = compactions.reduce((total, { deadBytes }) => total + deadBytes, 0);
    totalBytes = Math.max(totalBytes, leftBytes);
    progress.update({ doneBytes: totalBytes - leftBytes, totalBytes, doneFiles: 0 });
  };
  try {
    return await admin.collectGarbage({ graceSeconds, wait, onProgress }, { signal });
  } finally {
    progress.clear();
  }
}

function graceSeconds(text: string): number {
  return Math.round(parseDurationMs(text, '--grace') / SECOND_MS);
}

function statusView(clock: Clock): Omit<RowsView<GarbageStatus>, 'headers'> {
  const since = (status: GarbageStatus): string =>
    status.walkedAt === undefined ? 'not counted yet' : `as of ${age(status.walkedAt, clock.now())} ago`;
  return {
    columns: [
      {
        header: 'Garbage',
        cell: (status) =>
          `${status.chunks} chunks, ${formatByteSize(status.storedBytes)} on all nodes together (${since(status)})`,
      },
      {
        header: 'Grace',
        cell: ({ graceSeconds, waits }) =>
          waits
            ? 'nothing is collected after a restore until `collective maintenance set garbage-waits=false`'
            : formatDurationMs(graceSeconds * SECOND_MS),
      },
      { header: 'Removed files', cell: ({ removedFiles }) => `${removedFiles} whose blocks are not garbage yet` },
      {
        header: 'Waiting',
        cell: ({ condemned, waitsFor }) =>
          condemned === 0 ? 'none' : `${condemned} chunks for ${waitsFor.map(({ node }) => node).join(', ')}`,
      },
      {
        header: 'Collected',
        cell: ({ collectedChunks, collectedBytes }) =>
          `${collectedChunks} chunks, ${formatByteSize(collectedBytes)}, since the coordinator started`,
      },
      {
        header: 'Orphans',
        cell: ({ orphans, orphansForgotten }) => `${orphans} on nodes, ${orphansForgotten} forgotten`,
      },
      {
        header: 'Folded',
        cell: ({ foldedBlocks, blocksToFold }) => `${foldedBlocks} blocks, ${blocksToFold} noted to be`,
      },
      {
        header: 'Compared',
        wide: true,
        cell: ({ inventories }) =>
          inventories
            .map(
              ({ node, ended, chunks, missing, orphans, adopted }) =>
                `${node} ${age(ended, clock.now())} ago: ${chunks} chunks, ${missing} missing, ${orphans} orphans, ${adopted} adopted`,
            )
            .join('; ') || 'no node yet',
      },
      {
        header: 'Compacted',
        wide: true,
        cell: ({ compactions }) =>
          compactions
            .map(({ node, state, deadBytes, reason }) => {
              const left = state === 'done' ? '' : `, ${formatByteSize(deadBytes)} are left`;
              return `${node} ${state}${left}${reason === '' ? '' : `: ${reason}`}`;
            })
            .join('; ') || 'not asked for',
      },
    ],
    name: () => 'garbage',
    object: (status) => ({
      ...status,
      walkedAt: status.walkedAt && isoTime(status.walkedAt),
      inventories: status.inventories.map((one) => ({ ...one, ended: one.ended && isoTime(one.ended) })),
    }),
  };
}

function dueView(clock: Clock): RowsView<GarbageChunk> {
  return {
    columns: [
      { header: 'CHUNK', cell: ({ chunk }) => chunk },
      { header: 'SIZE', cell: ({ storedBytes }) => formatByteSize(storedBytes), align: 'right' },
      { header: 'GARBAGE FOR', cell: ({ since }) => age(since, clock.now()) },
      { header: 'NODES', cell: ({ nodes }) => nodes.join(',') || '-' },
      { header: 'INODE', cell: ({ inode }) => String(inode), wide: true },
      { header: 'CONDEMNED', cell: ({ condemned }) => (condemned ? 'yes' : 'no'), wide: true },
    ],
    name: ({ chunk }) => chunk,
    object: (each) => ({ ...each, since: each.since && isoTime(each.since) }),
  };
}

function orphanView(clock: Clock): RowsView<OrphanChunk> {
  return {
    columns: [
      { header: 'NODE', cell: ({ node }) => node },
      { header: 'CHUNK', cell: ({ chunk }) => chunk },
      { header: 'SEEN FOR', cell: ({ since }) => age(since, clock.now()) },
      {
        header: 'STATE',
        cell: ({ leaving, forgotten }) => (forgotten === undefined ? (leaving ? 'leaving' : 'kept') : 'forgotten'),
      },
      { header: 'DISK', cell: ({ disk }) => disk, wide: true },
    ],
    name: ({ node, chunk }) => `${node}/${chunk}`,
    object: (each) => ({
      ...each,
      since: each.since && isoTime(each.since),
      forgotten: each.forgotten && isoTime(each.forgotten),
    }),
  };
}

/** Passes rows on and adds them up. */
class Sum implements AsyncIterable<GarbageChunk> {
  readonly #rows: AsyncIterable<GarbageChunk>;
  #chunks = 0;
  #bytes = 0;

  constructor(rows: AsyncIterable<GarbageChunk>) {
    this.#rows = rows;
  }

  get text(): string {
    return `${this.#chunks} chunks, ${formatByteSize(this.#bytes)} on all nodes together,`;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GarbageChunk, void, undefined> {
    for await (const row of this.#rows) {
      this.#chunks += 1;
      this.#bytes += row.storedBytes;
      yield row;
    }
  }
}
