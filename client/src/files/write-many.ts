/** Many independent writes at once, with a bound; one that fails does not stop the others. */
import { toCollectiveError } from '@collective/base/errors';
import type { Attributes, SmallFile, WriteManyOptions, WriteManyOutcome } from '../api.ts';

const DEPTH_DEFAULT = 32;

export async function* writeMany(
  files: AsyncIterable<SmallFile> | Iterable<SmallFile>,
  options: WriteManyOptions,
  write: (file: SmallFile) => Promise<Attributes>,
): AsyncGenerator<WriteManyOutcome, void, undefined> {
  const depth = Math.max(1, options.depth ?? DEPTH_DEFAULT);
  const done: WriteManyOutcome[] = [];
  let underWay = 0;
  let wake: (() => void) | undefined;
  const finished = (outcome: WriteManyOutcome): void => {
    underWay--;
    done.push(outcome);
    wake?.();
  };
  const oneFinished = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  for await (const file of files) {
    options.signal?.throwIfAborted();
    underWay++;
    write(file).then(
      (attributes) => finished({ path: file.path, attributes }),
      (error) => finished({ path: file.path, error: toCollectiveError(error, `Write ${file.path}`) }),
    );
    while (underWay >= depth) {
      if (done.length === 0) await oneFinished();
      yield* done.splice(0);
    }
  }
  while (underWay > 0 || done.length > 0) {
    if (done.length === 0) await oneFinished();
    yield* done.splice(0);
  }
}
