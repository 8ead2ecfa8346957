/** Reads a backup from its first byte to its last, every checksum compared, and tells what it is. */
import { CollectiveError } from '@collective/base/errors';
import { BackupDecoder, type BackupFacts, type BackupPart } from './backup-format.ts';

export interface InspectedBackup {
  readonly facts: BackupFacts;
  readonly rows: number;
  readonly hasAuthority: boolean;
}

export class BackupInspector {
  #facts: BackupFacts | undefined;
  #rows = 0;
  #hasAuthority = false;

  see(part: BackupPart): void {
    if (part.kind === 'facts') this.#facts = part.facts;
    else if (part.kind === 'rows') this.#rows += part.rows.length;
    else if (part.kind === 'file') this.#hasAuthority = true;
  }

  get result(): InspectedBackup {
    if (this.#facts === undefined) throw new CollectiveError('backup_damaged', 'Read a backup: it is empty');
    return { facts: this.#facts, rows: this.#rows, hasAuthority: this.#hasAuthority };
  }
}

/** Throws `backup_damaged`, `version_too_new`. */
export async function inspectBackup(source: AsyncIterable<Buffer>): Promise<InspectedBackup> {
  const decoder = new BackupDecoder();
  const inspector = new BackupInspector();
  for await (const bytes of source) for (const part of decoder.push(bytes)) inspector.see(part);
  decoder.finish();
  return inspector.result;
}
