/** `collective write`: stdin becomes a file, or is added to one. Acknowledged when stable on the nodes. */
import { PassThrough, pipeline } from 'node:stream';
import { formatByteSize, parseByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import type { FileHandle, Files } from '@collective/client';
import type { Command } from 'commander';
import { withMember } from '../member-session.ts';
import { Progress } from '../output/progress.ts';
import { remotePath } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { flag, modeOption, verb } from '../verb.ts';

interface WriteCommandOptions {
  readonly append?: boolean;
  readonly offset?: number;
  readonly clobber: boolean;
  readonly mode?: number;
}

export function writeCommand(shell: Shell): Command {
  return verb('write', {
    summary: 'store standard input as a file',
    description:
      'The name shows the old content until all of the new is stored; an interrupted write leaves the old file as it was.\nWith --append or --offset an existing file is changed in place.',
    examples: [
      { line: 'date | collective write /notes/today.txt', says: 'make or replace a file' },
      { line: 'tail -f app.log | collective write --append /logs/app', says: 'add at the end as it comes' },
      { line: 'collective write --offset 4KiB /db/image < page', says: 'overwrite a part' },
    ],
  })
    .argument('<path>', 'the file')
    .option('-a, --append', 'add at the end; the file is made if there is none')
    .option(
      '--offset <size>',
      'overwrite from this byte on; the file is made if there is none',
      flag((text) => parseByteSize(text, '--offset')),
    )
    .option('-n, --no-clobber', 'fail if the file exists')
    .addOption(modeOption('permission bits of a new file'))
    .action(async (path: string, options: WriteCommandOptions, command: Command) => {
      const { append, offset, mode } = options;
      if (append && offset !== undefined) {
        throw new CollectiveError('invalid_argument', `Write ${path}: --append and --offset exclude each other`);
      }
      // Before anything is made: a file that cannot be written is not there afterwards.
      if (offset !== undefined && offset >= FILE_BYTES_MAX) {
        const most = formatByteSize(FILE_BYTES_MAX);
        throw new CollectiveError('too_large', `Write ${path} from byte ${offset} on: a file has at most ${most}`);
      }
      await withMember(shell, command, async ({ files, globals, signal }) => {
        const target = remotePath(path);
        const progress = new Progress(shell, { quiet: globals.quiet });
        if (append || offset !== undefined) {
          await writeInPlace(files, target, shell, { offset, mode, exclusive: !options.clobber, signal, progress });
        } else {
          await files.write(target, piecesOf(shell), {
            mode,
            replace: options.clobber,
            signal,
            onProgress: ({ storedBytes }) => progress.update({ doneBytes: storedBytes, doneFiles: 0 }),
          });
        }
        progress.clear();
      });
    });
}

interface InPlace {
  readonly offset: number | undefined;
  readonly mode: number | undefined;
  readonly exclusive: boolean;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

async function writeInPlace(files: Files, path: string, shell: Shell, how: InPlace): Promise<void> {
  const { mode, exclusive, signal, progress } = how;
  await using handle: FileHandle = await files.open(path, { access: 'write', create: true, exclusive, mode, signal });
  let offset = how.offset;
  let doneBytes = 0;
  for await (const piece of blocksOf(piecesOf(shell))) {
    if (offset === undefined) {
      await handle.append(piece, { signal });
    } else {
      await handle.write(offset, piece, { signal });
      offset += piece.length;
    }
    doneBytes += piece.length;
    progress.update({ doneBytes, doneFiles: 0 });
  }
}

/** What stdin has, up to a block at once: a fast pipe is written in large pieces, a slow one as it comes. */
async function* piecesOf(shell: Shell): AsyncGenerator<Buffer> {
  const gathered = new PassThrough({ highWaterMark: BLOCK_BYTES });
  pipeline(shell.stdin, gathered, (error) => {
    if (error) gathered.destroy(error);
  });
  for await (const piece of gathered) yield piece;
}

/** A piece of an append never exceeds one block. */
async function* blocksOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += BLOCK_BYTES) yield piece.subarray(at, at + BLOCK_BYTES);
  }
}
