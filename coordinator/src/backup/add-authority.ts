/**
 * A backup on its way from the coordinator into a file: verified as it passes, and the authority's files added, which the
 * coordinator does not send: its key does not leave its machine but by who may read its folder.
 */
import { BackupDecoder, BackupEncoder } from './backup-format.ts';
import { BackupInspector, type InspectedBackup } from './inspect-backup.ts';

export class BackupRewriter {
  readonly #decoder = new BackupDecoder();
  readonly #encoder = new BackupEncoder();
  readonly #inspector = new BackupInspector();
  readonly #files: readonly { readonly name: string; readonly content: Buffer }[];

  constructor(files: readonly { readonly name: string; readonly content: Buffer }[]) {
    this.#files = files;
  }

  /** What is to be written for these bytes. Throws `backup_damaged`. */
  *push(bytes: Buffer): Generator<Buffer, void, undefined> {
    for (const part of this.#decoder.push(bytes)) {
      this.#inspector.see(part);
      if (part.kind === 'facts') yield this.#encoder.facts(part.facts);
      else if (part.kind === 'rows') yield this.#encoder.rows(part.rows);
      else if (part.kind === 'end') {
        for (const { name, content } of this.#files) yield this.#encoder.file(name, content);
        yield this.#encoder.end();
      }
    }
  }

  finish(): InspectedBackup {
    this.#decoder.finish();
    return { ...this.#inspector.result, hasAuthority: this.#files.length > 0 };
  }
}
