/**
 * `collective verify`: re-reads every replica of every chunk and names the bad ones, with the node that holds them.
 * Exit code 7 when something is bad, so that a script notices.
 */

import { formatByteSize } from '@collective/base/byte-size';
import { errorChain } from '@collective/base/errors';
import type { VerifyReport } from '@collective/client';
import type { Command } from 'commander';
import { ExitWith } from '../exit-with.ts';
import { type MemberSession, withMember } from '../member-session.ts';
import { Failures } from '../output/failures.ts';
import { Progress } from '../output/progress.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { remotePath } from '../remote-path.ts';
import { type Shell, say } from '../shell.ts';
import { verb } from '../verb.ts';

const EXIT_DAMAGED = 7;

const VIEW: RowsView<VerifyReport> = {
  columns: [
    { header: 'STATE', cell: stateOf },
    { header: 'CHUNKS', cell: ({ chunks }) => String(chunks), align: 'right' },
    { header: 'REPLICAS', cell: ({ replicas }) => String(replicas), align: 'right' },
    { header: 'BAD', cell: ({ bad }) => String(bad.length), align: 'right' },
    { header: 'LOST', cell: ({ lost }) => String(lost), align: 'right' },
    { header: 'READ', cell: ({ bytesRead }) => formatByteSize(bytesRead), align: 'right' },
    { header: 'BAD NODES', cell: ({ bad }) => [...new Set(bad.map(({ node }) => node))].join(',') || '-' },
    { header: 'PATH', cell: ({ path }) => path },
  ],
  name: ({ path }) => path,
  object: (report) => ({
    ...report,
    state: stateOf(report),
    bad: report.bad.map(({ chunk, offset, node, error }) => ({ chunk, offset, node, error: errorChain(error)[0] })),
  }),
};

export function verifyCommand(shell: Shell): Command {
  return verb('verify', {
    summary: 're-read every replica of files and name the bad ones',
    description:
      'Exit code 7 if a replica is missing, damaged or out of reach. Readers are not hurt by one bad replica: they get the other.',
    examples: [
      { line: 'collective verify /photos/a.raw', says: 'one file' },
      { line: 'collective verify / --only-bad', says: 'everything; print only what is not well' },
    ],
  })
    .argument('<path...>', 'files, or directories with all below')
    .option('--only-bad', 'print only files that are not well')
    .action(async (paths: string[], options: { onlyBad?: boolean }, command: Command) => {
      await withMember(shell, command, async (session) => {
        const failures = new Failures(shell, session.globals, session.signal);
        const progress = new Progress(shell, { quiet: session.globals.quiet });
        const reports: VerifyReport[] = [];
        const shown = shownReports(
          session,
          paths.map(remotePath),
          options.onlyBad === true,
          reports,
          failures,
          progress,
        );
        await printRows(shell.stdout, session.globals.output, shown, VIEW);
        progress.clear();
        for (const { path, bad } of reports) {
          for (const { node, chunk, offset, error } of bad) {
            await say(
              shell,
              `${path}: block at ${offset}: replica of chunk ${chunk} on ${node}: ${errorChain(error).join(': ')}`,
            );
          }
        }
        failures.end();
        if (reports.length > 0) throw new ExitWith(EXIT_DAMAGED);
      });
    });
}

/** Fills `unwell` on the way. */
async function* shownReports(
  { files, signal }: MemberSession,
  paths: readonly string[],
  onlyBad: boolean,
  unwell: VerifyReport[],
  failures: Failures,
  progress: Progress,
): AsyncGenerator<VerifyReport> {
  let doneBytes = 0;
  let doneFiles = 0;
  for (const path of paths) {
    try {
      for await (const entry of files.walk(path, { signal })) {
        if (entry.type !== 'file') continue;
        const report = await files.verify(entry.path, {
          signal,
          onProgress: ({ bytesRead }) => progress.update({ doneBytes: doneBytes + bytesRead, doneFiles }),
        });
        doneBytes += report.bytesRead;
        doneFiles++;
        const well = report.bad.length === 0 && report.lost === 0;
        if (!well) unwell.push(report);
        if (well && onlyBad) continue;
        progress.clear();
        yield report;
      }
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      failures.add(thrown);
    }
  }
}

function stateOf({ bad, lost, underReplicated }: VerifyReport): string {
  if (lost > 0) return 'LOST';
  if (bad.length > 0) return 'BAD';
  return underReplicated > 0 ? 'FEW' : 'OK';
}
