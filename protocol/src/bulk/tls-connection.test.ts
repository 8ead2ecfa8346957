import assert from 'node:assert/strict';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import { ScratchAuthority } from '../tls/scratch-authority.ts';
import type { Trust } from '../tls/trust-files.ts';
import type { TrustSet } from '../tls/trust-set.ts';
import type { BulkConnection } from './connection.ts';
import { connectionContract } from './connection-contract.ts';
import { encodeControlFrame } from './frame.ts';
import { TlsBulkAcceptor } from './tls-acceptor.ts';
import { TlsBulkConnector } from './tls-connector.ts';

const clock = new SystemClock();
const signal = (): AbortSignal => AbortSignal.timeout(10_000);
const authority = ScratchAuthority.create('alice.home' as TrustDomain);

class ChangingTrust implements Trust {
  current: TrustSet;
  readonly #listeners = new Set<(set: TrustSet) => void>();

  constructor(set: TrustSet) {
    this.current = set;
  }

  onChange(listener: (set: TrustSet) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  change(set: TrustSet): void {
    this.current = set;
    for (const listener of this.#listeners) listener(set);
  }
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < endMs, 'it did not happen within 10 s');
    await sleep(clock, 5);
  }
}

interface Listening extends AsyncDisposable {
  readonly acceptor: TlsBulkAcceptor;
  readonly trust: ChangingTrust;
  readonly accepted: { readonly connection: BulkConnection; readonly uri: string }[];
}

async function listen(set?: TrustSet): Promise<Listening> {
  const trust = new ChangingTrust(set ?? (await (await authority).peer('node', 'one')));
  const accepted: { connection: BulkConnection; uri: string }[] = [];
  const acceptor = await TlsBulkAcceptor.listen({
    trust,
    clock,
    host: '127.0.0.1',
    port: 0,
    accept: (connection, { uri }) => accepted.push({ connection, uri }),
  });
  return { acceptor, trust, accepted, [Symbol.asyncDispose]: () => acceptor[Symbol.asyncDispose]() };
}

async function dial(port: number, set?: TrustSet, name = 'one', own?: ChangingTrust): Promise<BulkConnection> {
  const trust = own ?? new ChangingTrust(set ?? (await (await authority).peer('user', 'ann')));
  return await new TlsBulkConnector({ trust, clock }).connect({ name, host: '127.0.0.1', port }, signal());
}

connectionContract('TLS, from the connecting side', async () => {
  const listening = await listen();
  const left = await dial(listening.acceptor.port);
  await until(() => listening.accepted.length === 1);
  const right = listening.accepted[0]?.connection;
  assert.ok(right !== undefined);
  return { left, right, until, [Symbol.asyncDispose]: () => finish(listening, left) };
});

connectionContract('TLS, from the accepting side', async () => {
  const listening = await listen();
  const right = await dial(listening.acceptor.port);
  await until(() => listening.accepted.length === 1);
  const left = listening.accepted[0]?.connection;
  assert.ok(left !== undefined);
  return { left, right, until, [Symbol.asyncDispose]: () => finish(listening, right) };
});

async function finish(listening: Listening, dialled: BulkConnection): Promise<void> {
  dialled.destroy(new CollectiveError('interrupted', 'The test is over'));
  await listening[Symbol.asyncDispose]();
}

describe('who may connect', () => {
  let listening: Listening;
  before(async () => {
    listening = await listen();
  });
  after(() => listening[Symbol.asyncDispose]());

  test('T3: the acceptor knows its peer by the URI of its certificate', async () => {
    const connection = await dial(listening.acceptor.port);
    await until(() => listening.accepted.length > 0);
    assert.equal(listening.accepted.at(-1)?.uri, 'spiffe://alice.home/user/ann');
    connection.close();
  });

  test('T3: a peer without a certificate is refused', async () => {
    const seen = listening.accepted.length;
    const { roots } = (await (await authority).peer('user', 'ann')) as TrustSet;
    const socket = connectTls({
      host: '127.0.0.1',
      port: listening.acceptor.port,
      ca: roots.map(String),
      checkServerIdentity: () => undefined,
    });
    await new Promise<void>((resolve) => {
      socket.on('error', () => resolve());
      socket.on('close', () => resolve());
    });
    assert.equal(listening.accepted.length, seen);
  });

  test('T1: an expired certificate is refused', async () => {
    const seen = listening.accepted.length;
    const expired = await (await authority).peer('user', 'ann', {
      notBefore: new Date(Date.now() - 7_200_000),
      notAfter: new Date(Date.now() - 3_600_000),
    });
    const closed = Promise.withResolvers<void>();
    try {
      const connection = await dial(listening.acceptor.port, expired);
      connection.listen({ frame: () => assert.fail('no frame'), closed: () => closed.resolve() });
      connection.send([encodeControlFrame('PING', 0, Buffer.alloc(0))]);
    } catch (error) {
      assert.ok(error instanceof CollectiveError);
      closed.resolve();
    }
    await closed.promise;
    assert.equal(listening.accepted.length, seen);
  });

  test("T2: a user's certificate that carries the node's DNS name does not pass for the node", async () => {
    const scratch = await authority;
    const pems = await scratch.leaf({
      names: [
        { type: 'url', value: 'spiffe://alice.home/user/eve' },
        { type: 'dns', value: 'one.node.alice.home' },
      ],
    });
    const real = await scratch.peer('node', 'one');
    await using posing = await listen({ ...real, certificatePem: pems.certificatePem, keyPem: pems.keyPem });
    await assert.rejects(dial(posing.acceptor.port), { code: 'unauthenticated' });
  });

  test('T2: another node than the one that was meant is refused', async () => {
    await assert.rejects(dial(listening.acceptor.port, undefined, 'two'), { code: 'unauthenticated' });
  });

  test('T4: new identity files serve new connections and leave the old ones alone', async () => {
    await using own = await listen();
    const first = await dial(own.acceptor.port);
    const frames: number[] = [];
    await until(() => own.accepted.length === 1);
    own.accepted[0]?.connection.listen({ frame: ({ stream }) => frames.push(stream), closed: () => undefined });
    own.trust.change(await (await authority).peer('node', 'renamed'));
    await assert.rejects(dial(own.acceptor.port), { code: 'unauthenticated' });
    const second = await dial(own.acceptor.port, undefined, 'renamed');
    first.send([encodeControlFrame('PING', 42, Buffer.alloc(0))]);
    await until(() => frames.length === 1);
    for (const connection of [first, second]) connection.close();
  });

  test('T6: a connection whose root is dropped is closed', async () => {
    await using own = await listen();
    const connection = await dial(own.acceptor.port);
    let closed = false;
    connection.listen({ frame: () => undefined, closed: () => (closed = true) });
    await until(() => own.accepted.length === 1);
    own.accepted[0]?.connection.listen({ frame: () => undefined, closed: () => undefined });
    const other = await ScratchAuthority.create('alice.home' as TrustDomain, { generation: 2 });
    own.trust.change(await other.peer('node', 'one'));
    await until(() => closed);
  });

  test('T6: when the own leaf is replaced, nothing more is begun on a connection, and the next shows the new one', async () => {
    await using own = await listen();
    const trust = new ChangingTrust(await (await authority).peer('user', 'ann'));
    const connection = await dial(own.acceptor.port, undefined, 'one', trust);
    const told: string[] = [];
    connection.listen({
      frame: () => undefined,
      closed: () => told.push('closed'),
      outdated: () => told.push('outdated'),
    });
    await until(() => own.accepted.length === 1);
    own.accepted[0]?.connection.listen({ frame: () => undefined, closed: () => undefined });
    trust.change(await (await authority).peer('user', 'bea'));
    assert.deepEqual(told, ['outdated'], 'what is under way goes on');
    const second = await dial(own.acceptor.port, undefined, 'one', trust);
    await until(() => own.accepted.length === 2);
    assert.deepEqual(
      own.accepted.map(({ uri }) => uri),
      ['spiffe://alice.home/user/ann', 'spiffe://alice.home/user/bea'],
    );
    for (const each of [connection, second]) each.close();
  });

  test('a port that nobody listens on, one that never answers, and a caller that gives up', async () => {
    const silent: Socket[] = [];
    const server = createServer((socket) => silent.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const trust = new ChangingTrust(await (await authority).peer('user', 'ann'));
    const connector = new TlsBulkConnector({ trust, clock, connectWithinMs: 100 });
    const target = { name: 'one', host: '127.0.0.1', port };
    await assert.rejects(connector.connect(target, signal()), {
      code: 'unavailable',
      message: /no answer within 100 ms/,
    });
    const aborted = new AbortController();
    const dialling = new TlsBulkConnector({ trust, clock }).connect(target, aborted.signal);
    aborted.abort(new CollectiveError('interrupted', 'The caller gave up'));
    await assert.rejects(dialling, { code: 'interrupted' });
    for (const socket of silent) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
    await assert.rejects(connector.connect(target, signal()), { code: 'unavailable' });
  });

  test('a port that is taken is named', async () => {
    const set = await (await authority).peer('node', 'one');
    const { port } = listening.acceptor;
    await assert.rejects(
      TlsBulkAcceptor.listen({
        trust: new ChangingTrust(set),
        clock,
        host: '127.0.0.1',
        port,
        accept: () => undefined,
      }),
      { code: 'address_in_use', message: new RegExp(`127.0.0.1:${port}`) },
    );
  });

  test('a caller that connects and says nothing is cut when its handshake takes too long', async () => {
    const silent = connectTcp(listening.acceptor.port, '127.0.0.1');
    silent.on('error', () => undefined);
    silent.resume();
    await until(() => silent.destroyed);
  });

  test('bytes that are not TLS do not harm the listener', async () => {
    const socket = connectTcp({ host: '127.0.0.1', port: listening.acceptor.port });
    socket.on('error', () => undefined);
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await new Promise<void>((resolve) => socket.on('close', () => resolve()));
    (await dial(listening.acceptor.port)).close();
  });
});
