/**
 * Which inodes this session has open (M8). The coordinator asks before the last name of an inode goes; from then on the
 * inode stays until it is told that the last handle was closed.
 */
import { PromiseKind, type Unlink } from '@collective/protocol/gen/session';
import type { RecallAnswer, RecallRequest } from '../session/session-options.ts';

interface OpenFile {
  handles: number;
  /** The coordinator has recorded, or may have recorded, that we hold it. */
  held: boolean;
}

export class OpenFiles {
  readonly #files = new Map<number, OpenFile>();

  opened(inode: number): void {
    const file = this.#files.get(inode);
    if (file === undefined) this.#files.set(inode, { handles: 1, held: false });
    else file.handles++;
  }

  /** `held` of the last handle: the coordinator must be told that the inode is released. */
  closed(inode: number): { isLast: boolean; held: boolean } {
    const file = this.#files.get(inode);
    if (file === undefined || --file.handles > 0) return { isLast: false, held: false };
    this.#files.delete(inode);
    return { isLast: true, held: file.held };
  }

  has(inode: number): boolean {
    return this.#files.has(inode);
  }

  inodes(): number[] {
    return [...this.#files.keys()];
  }

  /** For the `held` of an unlink and of a rename that replaces. */
  hold(inode: number | undefined): Unlink['held'] {
    const file = inode === undefined ? undefined : this.#files.get(inode);
    if (file === undefined) return false;
    file.held = true;
    return true;
  }

  answerRecall(recall: RecallRequest): RecallAnswer {
    return { open: (recall.kinds & PromiseKind.PROMISE_OPEN) !== 0 && this.hold(recall.inode) };
  }

  /** After an attach the coordinator has our list of open inodes. */
  holdAll(): void {
    for (const file of this.#files.values()) file.held = true;
  }
}
