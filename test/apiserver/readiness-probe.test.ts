import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { until } from '../until.ts';
import { ReadinessProbe } from './readiness-probe.ts';

const WITHIN_MS = 60_000;
const PERIOD_MS = 5_000;
/** Longer than any answer here takes, but for the one that never comes. */
const PATIENT = { periodSeconds: PERIOD_MS / 1_000, timeoutSeconds: 60, failureThreshold: 2 };

let clock: FakeClock;
let asked = 0;
let answer: (response: ServerResponse) => void;
const answers = (status: number) => (response: ServerResponse) => void response.writeHead(status).end();
const server = createServer((_request, response) => {
  asked++;
  answer(response);
});
before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
beforeEach(() => {
  clock = new FakeClock();
  asked = 0;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function probe(rules: object = {}): ReadinessProbe {
  const { port } = server.address() as AddressInfo;
  const httpGet = { path: '/readyz', port: 'health' };
  return new ReadinessProbe({
    url: `http://127.0.0.1:${port}/readyz`,
    rules: { httpGet, ...PATIENT, ...rules },
    clock,
  });
}

async function lookAfterPeriod(of: ReadinessProbe): Promise<boolean> {
  await clock.advance(PERIOD_MS);
  await of.look();
  return of.isReady;
}

test('a container is ready with its first good answer, and is asked at every look until then', async () => {
  const readiness = probe();
  answer = answers(503);
  await readiness.look();
  await readiness.look();
  assert.deepEqual([readiness.isReady, asked], [false, 2]);
  answer = answers(200);
  await readiness.look();
  assert.deepEqual([readiness.isReady, asked], [true, 3]);
});

test('one that is ready is asked once each period, and one failure in a row is not yet enough', async () => {
  const readiness = probe();
  answer = answers(200);
  await readiness.look();
  await readiness.look();
  assert.equal(asked, 1);
  answer = answers(503);
  assert.equal(await lookAfterPeriod(readiness), true);
  answer = answers(200);
  assert.equal(await lookAfterPeriod(readiness), true);
  answer = answers(503);
  assert.equal(await lookAfterPeriod(readiness), true, 'the good answer in between counts');
  assert.equal(await lookAfterPeriod(readiness), false);
  answer = answers(200);
  await readiness.look();
  assert.equal(readiness.isReady, true);
});

test('no answer in time, and no connection, is a failure too', async () => {
  const readiness = probe({ timeoutSeconds: 0.2, failureThreshold: 1 });
  answer = answers(200);
  const isReady = async (): Promise<boolean> => {
    await readiness.look();
    return readiness.isReady;
  };
  await until(isReady, 'one answer comes in time', WITHIN_MS);
  answer = () => undefined;
  assert.equal(await lookAfterPeriod(readiness), false);
  answer = (response) => response.destroy();
  await readiness.look();
  assert.equal(readiness.isReady, false);
});

test('a look while an answer is waited for asks no second time', async () => {
  const readiness = probe();
  const held = Promise.withResolvers<ServerResponse>();
  answer = held.resolve;
  const looks = [readiness.look(), readiness.look()];
  answers(200)(await held.promise);
  await Promise.all(looks);
  assert.deepEqual([readiness.isReady, asked], [true, 1]);
});
