/**
 * The audit log of an apiserver, read on from where it was read last: what was asked, by whom, and how it was answered. A log that
 * has begun anew meanwhile is an error: what was asked in between would be missed, and whoever counts on silence would hear it.
 */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

export interface AuditEvent {
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username: string };
  readonly userAgent?: string;
  readonly objectRef?: {
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code: number };
  readonly requestReceivedTimestamp: string;
}

export class AuditTail {
  readonly #file: string;
  #offset = 0;
  #inode: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  next(): readonly AuditEvent[] {
    const fd = openSync(this.#file, 'r');
    try {
      const { size, ino } = fstatSync(fd);
      const isSame = size >= this.#offset && ino === (this.#inode ?? ino);
      assert.ok(isSame, `${this.#file} has begun anew, and what it held is not known any more; let it grow larger`);
      this.#inode = ino;
      const bytes = Buffer.alloc(size - this.#offset);
      const read = readSync(fd, bytes, 0, bytes.length, this.#offset);
      // After the last newline stands nothing, or a line that is being written.
      const end = bytes.subarray(0, read).lastIndexOf('\n') + 1;
      this.#offset += end;
      const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
      return lines.map((line) => JSON.parse(line) as AuditEvent);
    } finally {
      closeSync(fd);
    }
  }
}
