/**
 * `collective verify`: re-reads every replica of every chunk and names the bad ones, with the node that holds them.
 * Exit code 7 when something is bad, so that a script notices, 5 when nodes did not answer.
 */

import { formatByteSize } from '@collective/base/byte-size';
import { CollectiveError, type ErrorCode, errorChain } from '@collective/base/errors';
import type { VerifyReport } from '@collective/client';
import type { Command } from 'commander';
import { ExitWith } from '../exit-with.ts';
import { type MemberSession, withMember } from '../member-session.ts';
import { counted } from '../output/counted.ts';
import { Failures } from '../output/failures.ts';
import { Progress } from '../output/progress.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { remotePath } from '../remote-path.ts';
import { type Shell, say } from '../shell.ts';
import { verb } from '../verb.ts';

const EXIT_UNAVAILABLE = 5;
const EXIT_DAMAGED = 7;
/** A node that did not answer. */
const AWAY: ReadonlySet<ErrorCode> = new Set(['unavailable', 'deadline_exceeded']);

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
    description: `Exit code 7 if a replica is missing or damaged, 5 if its node did not answer (AWAY). Readers are not hurt by one bad
replica: they get the other.`,
    examples: [
      { line: 'collective verify /photos/a.raw', says: 'one file' },
      { line: 'collective verify / --only-bad', says: 'everything; print only what is not well' },
    ],
  })
    .argument('<path...>', 'files, or directories with all below')
    .option('--only-bad', 'print only files that are not well')
    .action(async (paths: string[], options: { onlyBad?: boolean }, command: Command) => {
      await withMember(shell, command, async (session) => {
        const { globals, signal } = session;
        const failures = new Failures(shell, globals, signal);
        const progress = new Progress(shell, { quiet: globals.quiet });
        const verifying = new Verifying(session, failures, progress);
        const shown = async function* (): AsyncGenerator<VerifyReport> {
          for (const path of paths.map(remotePath)) {
            const reports = failures.skim(verifying.below(path), { alone: paths.length === 1 });
            for await (const report of reports) {
              if (options.onlyBad && isWell(report)) continue;
              yield report;
            }
          }
        };
        await printRows(shell, globals.output, shown(), VIEW, () => progress.clear());
        progress.clear();
        for (const { path, bad } of verifying.unwell) {
          for (const { node, chunk, offset, error } of bad) {
            await say(
              shell,
              `${path}: block at ${offset}: replica of chunk ${chunk} on ${node}: ${errorChain(error).join(': ')}`,
            );
          }
        }
        if (!globals.quiet) await say(shell, verifying.summary());
        failures.end();
        const [first] = verifying.unwell;
        if (first !== undefined) throw new ExitWith(verifying.unwell.every(isAway) ? EXIT_UNAVAILABLE : EXIT_DAMAGED);
      });
    });
}

/** Files under way at once: each small one costs some round trips. */
const FILES_AT_ONCE = 8;

class Verifying {
  /** Those with bad replicas. */
  readonly unwell: VerifyReport[] = [];
  readonly #session: MemberSession;
  readonly #failures: Failures;
  readonly #progress: Progress;
  #files = 0;
  #bytesRead = 0;

  constructor(session: MemberSession, failures: Failures, progress: Progress) {
    this.#session = session;
    this.#failures = failures;
    this.#progress = progress;
  }

  /** One report a file, in the order of the walk. */
  async *below(path: string): AsyncGenerator<VerifyReport> {
    const { files, signal } = this.#session;
    const underWay: Promise<VerifyReport | undefined>[] = [];
    const next = async (): Promise<readonly VerifyReport[]> => {
      const report = await underWay.shift();
      return report === undefined ? [] : [report];
    };
    // A link that was named is followed, as by every command that reads.
    const { type } = await files.stat(path, { signal });
    const start = type === 'directory' ? `${path}/` : path;
    for await (const entry of files.walk(start, { signal })) {
      if (entry.type !== 'file' && entry.depth > 0) continue;
      if (entry.type === 'directory') continue;
      underWay.push(entry.attributes.sizeBytes === 0 ? this.#empty(entry.path) : this.#verify(entry.path));
      if (underWay.length >= FILES_AT_ONCE) yield* await next();
    }
    while (underWay.length > 0) yield* await next();
  }

  summary(): string {
    const bad = this.unwell.length;
    const how = bad === 0 ? 'all replicas are well' : `${counted(bad, 'file')} with bad replicas`;
    return `${counted(this.#files, 'file')}, ${formatByteSize(this.#bytesRead)} read: ${how}.`;
  }

  /** Nothing lies anywhere that could be read. */
  async #empty(path: string): Promise<VerifyReport> {
    this.#files++;
    return { path, chunks: 0, replicas: 0, bytesRead: 0, underReplicated: 0, lost: 0, bad: [] };
  }

  /** A file that cannot be verified does not stop the others. */
  async #verify(path: string): Promise<VerifyReport | undefined> {
    const { files, signal } = this.#session;
    let report: VerifyReport | undefined;
    let seen = 0;
    await this.#failures.collect(async () => {
      report = await files.verify(path, {
        signal,
        onProgress: ({ bytesRead }) => {
          this.#bytesRead += bytesRead - seen;
          seen = bytesRead;
          this.#progress.update({ doneBytes: this.#bytesRead, doneFiles: this.#files });
        },
      });
    });
    if (report === undefined) return undefined;
    this.#files++;
    if (!isWell(report)) this.unwell.push(report);
    return report;
  }
}

function isWell({ bad, lost }: VerifyReport): boolean {
  return bad.length === 0 && lost === 0;
}

function stateOf(report: VerifyReport): string {
  const { bad, lost, underReplicated } = report;
  if (isAway(report)) return 'AWAY';
  if (lost > 0) return 'LOST';
  if (bad.length > 0) return 'BAD';
  return underReplicated > 0 ? 'FEW' : 'OK';
}

/** What could not be read lies on nodes that did not answer: nothing is known to be wrong with it. */
function isAway({ bad }: VerifyReport): boolean {
  return bad.length > 0 && bad.every(({ error }) => error instanceof CollectiveError && AWAY.has(error.code));
}
