/**
 * The rows of all realms as of the last commit, in memory: what is asked about realms where no operation runs, or too often
 * to read a row each time. Operations themselves read the rows, which count for what their answers rest on (M4).
 */
import type { RealmId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { storedRealms } from '../ops/realms.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { readBigEndian } from '../tables/table.ts';
import { REALMS } from '../tables/tables.ts';

export class RealmBook {
  readonly #rows: Map<RealmId, RealmRow>;
  #version = 1;

  static async load(engine: Engine): Promise<RealmBook> {
    const book = new RealmBook(await engine.run((tx) => storedRealms(tx)));
    engine.watch(REALMS, (key, row) => book.#put(readBigEndian(key, REALMS.prefix.length, 6) as RealmId, row));
    return book;
  }

  private constructor(realms: readonly { readonly realm: RealmId; readonly row: RealmRow }[]) {
    this.#rows = new Map(realms.map(({ realm, row }) => [realm, row]));
  }

  /** Grows with each change. */
  get version(): number {
    return this.#version;
  }

  /** The realm whose rights count for this one as well; a dissolved one is the realm that has what it had. */
  sharesRightsWith(realm: RealmId): RealmId | undefined {
    const row = this.#rows.get(realm);
    return ((row?.mergedInto || row?.rightsOf) as RealmId | undefined) || undefined;
  }

  #put(realm: RealmId, row: RealmRow): void {
    this.#rows.set(realm, row);
    this.#version += 1;
  }
}
