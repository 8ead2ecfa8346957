import { readFile } from 'node:fs/promises';
import { fileError } from './file-error.ts';

/** The text of a file; undefined: there is none. Throws as `fileError` says. An edge: for small files that lie outside of a `Disk`. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(`Read ${path}`, thrown);
  }
}
