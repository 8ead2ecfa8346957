/**
 * What a session has in the store besides its own row: locks, its share in open but unlinked inodes, kept answers. Taken
 * away in bounded steps, each complete in itself, so that an end cut short is finished after a restart.
 */
import type { InodeNumber, SessionId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import { NO_ONE_ELSE, OperationContext } from '../ops/context.ts';
import { dropLocks } from '../ops/locks.ts';
import { dropHolder } from '../ops/unlink.ts';
import type { LockRow, OrphanRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian, type Table } from '../tables/table.ts';
import { ANSWERS, INODES, LOCKS, ORPHANS } from '../tables/tables.ts';
import { THE_MEMBER } from './realm-rights.ts';
import type { KeptAnswer } from './session.ts';

const STEP_ROWS = 500;
/** The end of an inode looks at some rows each: few of them in one operation, so that it stops for few prefetches. */
const STEP_INODES = 20;

export class SessionRemains {
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Answers the inodes on which locks were held. */
  async dropLocks(session: SessionId): Promise<InodeNumber[]> {
    const locked = await this.#inodesOf<LockRow>(LOCKS, ({ locks }) => locks.some((lock) => lock.session === session));
    await this.#inSteps(locked, (tx, context, inodes) => {
      tx.need(inodes.map((inode) => LOCKS.key(inode)));
      for (const inode of inodes) dropLocks(context, inode, (lock) => lock.session === session);
    });
    return locked;
  }

  /** Ends the unlinked inodes that nobody else has open. Those in `stillOpen` are kept. */
  async dropOrphans(session: SessionId, stillOpen: ReadonlySet<number>): Promise<void> {
    const held = await this.#inodesOf<OrphanRow>(ORPHANS, ({ holders }) => holders.includes(session));
    await this.#inSteps(
      held.filter((inode) => !stillOpen.has(inode)),
      (tx, context, inodes) => {
        tx.need(inodes.flatMap((inode) => [ORPHANS.key(inode), INODES.key(inode), LOCKS.key(inode)]));
        for (const inode of inodes) dropHolder(context, inode, session);
      },
    );
  }

  async dropAnswers(session: SessionId): Promise<void> {
    const prefix = answersOf(session);
    for (let removed = STEP_ROWS; removed === STEP_ROWS; ) {
      removed = await this.#engine.run((tx) => {
        const rows = tx.scan(ANSWERS, prefix, prefixEnd(prefix), STEP_ROWS);
        for (const { key } of rows) tx.remove(ANSWERS, session, readBigEndian(key, 7, 8), readBigEndian(key, 15, 4));
        return rows.length;
      });
    }
  }

  async readAnswers(session: SessionId, take: (number: number, answer: KeptAnswer) => void): Promise<void> {
    const prefix = answersOf(session);
    for (let from = prefix; ; ) {
      const rows = await this.#engine.run((tx) => tx.scan(ANSWERS, from, prefixEnd(prefix), STEP_ROWS));
      for (const { key, value } of rows)
        take(readBigEndian(key, 7, 8), { step: readBigEndian(key, 15, 4), reply: value.reply });
      const last = rows.at(-1);
      if (rows.length < STEP_ROWS || last === undefined) return;
      from = `${last.key}\0`;
    }
  }

  async #inodesOf<Row>(table: Table<[InodeNumber], Row>, belongs: (row: Row) => boolean): Promise<InodeNumber[]> {
    const found: InodeNumber[] = [];
    for (let from = table.prefix; ; ) {
      const rows = await this.#engine.run((tx) => tx.scan(table, from, prefixEnd(table.prefix), STEP_ROWS));
      for (const { key, value } of rows) if (belongs(value)) found.push(readBigEndian(key, 1, 6) as InodeNumber);
      const last = rows.at(-1);
      if (rows.length < STEP_ROWS || last === undefined) return found;
      from = `${last.key}\0`;
    }
  }

  async #inSteps(
    inodes: readonly InodeNumber[],
    step: (tx: OperationRun, context: OperationContext, inodes: readonly InodeNumber[]) => void,
  ): Promise<void> {
    for (let at = 0; at < inodes.length; at += STEP_INODES) {
      const some = inodes.slice(at, at + STEP_INODES);
      await this.#engine.run((tx) => step(tx, new OperationContext(tx, THE_MEMBER, NO_ONE_ELSE), some));
    }
  }
}

function answersOf(session: SessionId): string {
  return ANSWERS.key(session, 0, 0).slice(0, -12);
}
