/**
 * The log alone through many lives. The model knows of each position what was appended last and how far the log had reported
 * *written* and *stable*; what the next life finds must lie between.
 */
import assert from 'node:assert/strict';
import type { LogPosition } from '@collective/base/ids';
import { randomBelow, randomUnit } from '@collective/base/random';
import { FileLog } from '@collective/coordinator/log/file-log';
import type { Life, LivingProgram } from './process-lives.ts';

const FOLDER = 'log';
const SEGMENT_BYTES = 2_000;

interface Found {
  readonly position: number;
  readonly payload: string;
}

export class LivingLog implements LivingProgram {
  /** Payload of each position, as it was appended last. */
  readonly #payloads = new Map<number, string>();
  #last = 0;
  #written = 0;
  #stable = 0;
  #truncated = 0;

  async live({ number, world, clock, disk, random }: Life): Promise<'ended' | 'failed'> {
    let failed = false;
    let opened: FileLog | undefined;
    let refused: unknown;
    const found: Found[] = [];
    const open = async (): Promise<FileLog> => {
      await disk.makeFolder(FOLDER);
      await disk.syncDirectory('');
      const log = await FileLog.open({ disk, clock, random, folder: FOLDER, segmentBytes: SEGMENT_BYTES });
      for await (const { position, payload } of log.read(0 as LogPosition))
        found.push({ position, payload: payload.toString() });
      return log;
    };
    open().then(
      (log) => {
        opened = log;
      },
      (error: unknown) => {
        refused = error;
      },
    );
    await world.until(() => opened !== undefined || refused !== undefined || disk.dead);
    if (refused !== undefined) {
      // Only a disk that fails may keep the log from opening: no crash makes it unreadable.
      assert.equal((refused as { code?: string }).code, 'disk_failed', `the log refuses to open: ${String(refused)}`);
      return 'failed';
    }
    if (opened === undefined) return 'ended';
    const log = opened;
    this.#check(found, log.last);
    log.begin(
      { generation: 7, start: number },
      {
        written: (position) => {
          assert.ok(position > this.#written && position <= this.#last, `written ${position}`);
          this.#written = position;
        },
        stable: (position) => {
          assert.ok(position > this.#stable && position <= this.#written, `stable ${position}`);
          this.#stable = position;
        },
        failed: () => {
          failed = true;
        },
      },
    );
    for (let step = 0; step < 60 && !disk.dead && !failed; step++) {
      const choice = randomBelow(random, 10);
      if (choice < 6) {
        const payload = `life ${number} step ${step} ${'x'.repeat(randomBelow(random, 300))}`;
        const position = log.append(Buffer.from(payload));
        assert.equal(position, this.#last + 1, 'a new batch takes the next position');
        this.#payloads.set(position, payload);
        this.#last = position;
      } else if (choice < 8) {
        log.hurry();
      } else if (choice === 8 && randomBelow(random, 3) === 0 && this.#stable > 0) {
        this.#truncated = this.#stable;
        log.truncate(this.#stable as LogPosition).catch(() => undefined);
      }
      await world.advance(randomUnit(random) * 12);
    }
    return failed ? 'failed' : 'ended';
  }

  died(kept: 'written' | 'stable'): void {
    if (kept === 'stable') this.#written = this.#stable;
  }

  /** What a fresh log shows becomes the truth, if it keeps what was promised. */
  #check(records: readonly Found[], last: number): void {
    assert.ok(last >= this.#written, `the log ends at ${last}, but ${this.#written} had been promised`);
    assert.ok(last <= this.#last, `the log ends at ${last}, but only ${this.#last} were appended`);
    let expected = records[0]?.position ?? last + 1;
    assert.ok(
      expected <= this.#truncated + 1,
      `the log begins at ${expected}, but was let go of up to ${this.#truncated} only`,
    );
    for (const { position, payload } of records) {
      assert.equal(position, expected, 'positions follow each other');
      assert.equal(payload, this.#payloads.get(position), `payload at ${position}`);
      expected++;
    }
    assert.equal(expected - 1, last);
    this.#last = last;
    this.#written = last;
    this.#stable = last;
  }
}
