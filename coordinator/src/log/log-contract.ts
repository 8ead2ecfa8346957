/**
 * What every Log must do (M2), run for each implementation and for each disk below it. `open` is a start of the process;
 * closing what it gave and opening again is a restart.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPosition } from '@collective/base/ids';
import type { Log, LogEvents, LogRecord } from './log.ts';

export interface LogUnderTest {
  readonly open: () => Promise<Log>;
  readonly dispose: () => Promise<void>;
}

export const position = (value: number): LogPosition => value as LogPosition;

/** What a log reported, in order, and a way to wait for it. */
export class Reported implements LogEvents {
  readonly order: string[] = [];
  writtenThrough = 0;
  stableThrough = 0;
  failure: Error | undefined;
  #waiting: (() => void)[] = [];

  written(position: LogPosition): void {
    assert.ok(position > this.writtenThrough, `written ${position} after ${this.writtenThrough}`);
    assert.equal(this.failure, undefined, 'nothing is reported after a failure');
    this.writtenThrough = position;
    this.#note(`written ${position}`);
  }

  stable(position: LogPosition): void {
    assert.ok(position > this.stableThrough, `stable ${position} after ${this.stableThrough}`);
    assert.ok(position <= this.writtenThrough, `stable ${position}, but only ${this.writtenThrough} was written`);
    assert.equal(this.failure, undefined, 'nothing is reported after a failure');
    this.stableThrough = position;
    this.#note(`stable ${position}`);
  }

  failed(error: Error): void {
    assert.equal(this.failure, undefined, 'a failure is reported once');
    this.failure = error;
    this.#note('failed');
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #note(what: string): void {
    this.order.push(what);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export async function recordsOf(log: Log, after = 0): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for await (const record of log.read(position(after))) records.push(record);
  return records;
}

export async function payloadsOf(log: Log, after = 0): Promise<string[]> {
  return (await recordsOf(log, after)).map(({ position, payload }) => `${position} ${payload.toString()}`);
}

export function logContract(name: string, make: () => Promise<LogUnderTest>): void {
  const onLog = (title: string, body: (under: LogUnderTest) => Promise<void>): void => {
    test(`${name}: ${title}`, { timeout: 20_000 }, async () => {
      const under = await make();
      try {
        await body(under);
      } finally {
        await under.dispose();
      }
    });
  };

  onLog('a new log is empty', async ({ open }) => {
    const log = await open();
    assert.equal(log.last, 0);
    assert.deepEqual(await recordsOf(log), []);
    await log.close();
  });

  onLog('M2: a batch has its position at once, is written next and stable after that', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    assert.equal(log.append(Buffer.from('a')), 1);
    assert.equal(log.append(Buffer.from('b')), 2);
    assert.equal(log.last, 2);
    assert.deepEqual(reported.order, [], 'nothing is firm before the disk has answered');
    log.hurry();
    await reported.until(() => reported.stableThrough === 2);
    assert.equal(reported.writtenThrough, 2);
    await log.close();
  });

  onLog('M2: batches become stable though nobody hurries', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    log.append(Buffer.from('a'));
    await reported.until(() => reported.stableThrough === 1);
    await log.close();
  });

  onLog('a restart finds every batch with its position, epoch and bytes', async ({ open }) => {
    const first = await open();
    first.begin({ generation: 5, start: 1 }, new Reported());
    const payloads = [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(100_000, 0xff), Buffer.from('COLLLOG1')];
    for (const payload of payloads) first.append(payload);
    await first.close();
    const second = await open();
    assert.equal(second.last, 4);
    assert.deepEqual(
      (await recordsOf(second)).map(({ position, epoch, payload }) => ({
        position,
        epoch,
        payload: payload.toString('hex'),
      })),
      payloads.map((payload, i) => ({
        position: i + 1,
        epoch: { generation: 5, start: 1 },
        payload: payload.toString('hex'),
      })),
    );
    await second.close();
  });

  onLog('positions go on where the earlier start ended, and reading begins above the asked one', async ({ open }) => {
    for (let start = 1; start <= 4; start++) {
      const log = await open();
      assert.deepEqual(await payloadsOf(log, start - 2), start === 1 ? [] : [`${start - 1} start ${start - 1}`]);
      log.begin({ generation: 1, start }, new Reported());
      assert.equal(log.append(Buffer.from(`start ${start}`)), start);
      await log.close();
    }
  });

  onLog('M2: an epoch that is not above the one of the newest batch is fenced', async ({ open }) => {
    const first = await open();
    first.begin({ generation: 5, start: 3 }, new Reported());
    first.append(Buffer.from('a'));
    await first.close();
    const second = await open();
    for (const epoch of [
      { generation: 5, start: 3 },
      { generation: 5, start: 2 },
      { generation: 4, start: 9 },
    ])
      assert.throws(() => second.begin(epoch, new Reported()), { code: 'fenced' });
    second.begin({ generation: 6, start: 1 }, new Reported());
    await second.close();
  });

  onLog('M2: truncate may let go of what was asked and of nothing above', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    for (let i = 1; i <= 60; i++) {
      log.append(Buffer.alloc(100, i));
      log.hurry();
      await reported.until(() => reported.stableThrough === i);
      if (i % 7 === 0) await log.truncate(position(i - 3));
    }
    await log.close();
    const again = await open();
    const records = await recordsOf(again);
    const first = records[0]?.position ?? assert.fail('nothing is left');
    assert.ok(first <= 54, `position ${first} is the first that is left, 54 must be there`);
    assert.deepEqual(
      records.map((record) => record.payload[0]),
      Array.from({ length: 61 - first }, (_, i) => first + i),
    );
    assert.equal(again.last, 60);
    await again.close();
  });

  onLog('positions go on after everything was let go of', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    for (let i = 1; i <= 30; i++) log.append(Buffer.alloc(100, i));
    log.hurry();
    await reported.until(() => reported.stableThrough === 30);
    await log.truncate(position(30));
    await log.close();
    const second = await open();
    assert.equal(second.last, 30);
    second.begin({ generation: 1, start: 2 }, new Reported());
    await second.truncate(position(30));
    await second.close();
    const third = await open();
    assert.equal(third.last, 30);
    third.begin({ generation: 1, start: 3 }, new Reported());
    assert.equal(third.append(Buffer.from('next')), 31);
    await third.close();
  });

  onLog('closing makes what was appended stable', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    for (let i = 0; i < 200; i++) log.append(Buffer.from(`${i}`));
    await log.close();
    assert.equal(reported.stableThrough, 200);
  });

  onLog('a closed log takes nothing more', async ({ open }) => {
    const log = await open();
    log.begin({ generation: 1, start: 1 }, new Reported());
    await log.close();
    assert.throws(() => log.append(Buffer.from('late')), /closed/);
  });

  onLog('its size is told', async ({ open }) => {
    const log = await open();
    const reported = new Reported();
    log.begin({ generation: 1, start: 1 }, reported);
    const before = log.sizeBytes;
    log.append(Buffer.alloc(1000));
    await reported.until(() => reported.writtenThrough === 1);
    assert.ok(log.sizeBytes >= before + 1000);
    await log.close();
  });
}
