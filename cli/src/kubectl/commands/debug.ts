/** `kubectl collective debug bundle [MEMBER]`: everything about a member in one file, to be given to somebody who helps. */
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { formatByteSize } from '@collective/base/byte-size';
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import { localError } from '../../local-error.ts';
import { counted } from '../../output/counted.ts';
import { type Shell, say, writeOut } from '../../shell.ts';
import { flag, wholeNumber } from '../../verb.ts';
import { type BundleFile, bundleFiles } from '../debug-bundle.ts';
import { kubeNoun, kubeVerb } from '../kube-verb.ts';
import { tarEnd, tarEntry } from '../tar-entry.ts';
import { type ClusterSession, withCluster } from '../with-cluster.ts';

const LOG_LINES = 20_000;
const STDOUT = '-';

interface BundleOptions {
  readonly file?: string;
  readonly logLines: number;
}

export function debugCommand(shell: Shell): Command {
  return kubeNoun(
    'debug',
    'gather what somebody needs who is to help',
    [bundleVerb(shell)],
    [{ line: 'kubectl collective debug bundle alice', says: 'objects, events, logs and health in one file' }],
  );
}

function bundleVerb(shell: Shell): Command {
  return kubeVerb('bundle', {
    summary: 'gather objects, events, logs and health of a member in one file',
    description:
      'Of Secrets only that they are there: their contents are not even asked for. Keys, tokens and passwords in anything else are\nblotted out. Names of files that are stored in the member are in none of it. Look through it all the same before you give it away.',
    examples: [
      { line: 'kubectl collective debug bundle alice', says: 'into a file of this folder, whose name is printed' },
      { line: 'kubectl collective debug bundle -n photos -f all.tar.gz', says: 'all members of a namespace' },
      { line: 'kubectl collective debug bundle alice -f - | tar tz', says: 'what is in it' },
    ],
  })
    .argument('[member]', 'the Member; default: all of the namespace')
    .option('-f, --file <file>', 'write to this file; - for standard output')
    .option(
      '--log-lines <n>',
      'so many of the newest lines of each container',
      flag(wholeNumber('--log-lines', 0, 1_000_000)),
      LOG_LINES,
    )
    .action(async (member: string | undefined, options: BundleOptions, command: Command) => {
      await withCluster(shell, command, async (session) => {
        await writeBundle(shell, session, member, options);
      });
    });
}

async function writeBundle(
  shell: Shell,
  session: ClusterSession,
  member: string | undefined,
  { file, logLines }: BundleOptions,
): Promise<void> {
  const nowMs = wallMs(shell.clock);
  const stamp = new Date(nowMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, '');
  const root = `collective-debug-${member ?? session.namespace}-${stamp}`;
  const path = file === STDOUT ? undefined : resolve(shell.cwd, file ?? `${root}.tar.gz`);
  const counts = { files: 0, bytes: 0 };
  const archive = Readable.from(archived(bundleFiles(shell, session, { member, logLines }), root, nowMs, counts));
  if (path === undefined) {
    await pipeline(archive, createGzip(), shell.stdout, { end: false, signal: session.signal });
  } else {
    // What it holds is for few eyes, and half of it is none.
    const target = createWriteStream(path, { mode: 0o600, flags: 'wx' });
    let opened = false;
    target.once('open', () => {
      opened = true;
    });
    try {
      await pipeline(archive, createGzip(), target, { signal: session.signal });
    } catch (thrown) {
      if (opened) await rm(path, { force: true });
      if (thrown instanceof Error && 'syscall' in thrown) throw localError(`Write ${path}`, thrown);
      throw thrown;
    }
    await writeOut(shell.stdout, `${path}\n`);
  }
  if (!session.options.quiet)
    await say(
      shell,
      `${counted(counts.files, 'file')}, ${formatByteSize(counts.bytes)}; missing.txt in it says what could not be had.`,
    );
}

async function* archived(
  files: AsyncIterable<BundleFile>,
  root: string,
  modifiedMs: number,
  counts: { files: number; bytes: number },
): AsyncGenerator<Buffer> {
  for await (const { path, text } of files) {
    const content = Buffer.from(text);
    counts.files++;
    counts.bytes += content.length;
    yield* tarEntry({ path: `${root}/${path}`, content, modifiedMs });
  }
  yield tarEnd();
}
