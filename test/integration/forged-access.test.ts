import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, chunkIdOf, chunkIdToBytes, ROOT_INODE } from '@collective/base/ids';
import { enrol, type Member } from '@collective/client';
import { signAccess } from '@collective/protocol/access/token';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import type { BulkExchange, GetRequest, PutRequest } from '@collective/protocol/bulk/exchange';
import { AccessClaims, AccessRights, SignedAccess } from '@collective/protocol/gen/node';
import {
  type ChunkLocation,
  Existing,
  InodeType,
  type Replenished,
  type ReplicaTicket,
} from '@collective/protocol/gen/session';
import { readTrustPems, type Trust } from '@collective/protocol/tls/trust-files';
import { seededFile } from './random-file.ts';
import { bulkTo, type OperationBody, RawSession, signal, trustOf } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const CONTENT = seededFile(1, 300_000);
const OTHER = seededFile(2, 300_000);
const FORGED = seededFile(3, 200_000);

describe('forged access to chunks, over real TLS connections to real nodes', () => {
  let member: RunningMember;
  let ann: Member;
  let annTrust: Trust;
  let beaTrust: Trust;
  let one: RawSession;
  let two: RawSession;
  let bea: RawSession;
  let reader: RawSession;
  let readerTrust: Trust;
  let chunk: ChunkLocation;
  let other: ChunkLocation;
  const open: (Disposable | BulkExchange)[] = [];

  before(async () => {
    member = await RunningMember.start();
    ann = await member.connect();
    await ann.files.write('/content.raw', CONTENT);
    await ann.files.write('/other.raw', OTHER);
    annTrust = await trustOf(join(member.folder, 'ann'));
    beaTrust = await enrolled('bea', false);
    readerTrust = await enrolled('cal', true);
    [one, two, bea, reader] = await Promise.all([
      session(annTrust),
      session(annTrust),
      session(beaTrust),
      session(readerTrust),
    ]);
    chunk = await locate(one, '/content.raw');
    other = await locate(one, '/other.raw');
  });
  after(async () => {
    for (const one of open) 'close' in one ? one.close() : one[Symbol.dispose]();
    await member?.[Symbol.asyncDispose]();
  });
  afterEach((t) => member?.printLogs(t));

  async function enrolled(name: string, readOnly: boolean): Promise<Trust> {
    const realms = [{ path: '/', readOnly }];
    const { token } = await ann.admin.createToken({ role: 'user', name, ttlSeconds: 60, realms });
    const credentials = join(member.folder, name);
    const { bundlePem: caPem } = await readTrustPems(join(member.folder, 'ann'));
    const { coordinator, trustDomain } = member.connectOptions();
    await enrol({ coordinator, trustDomain, caPem, token, role: 'user', name, credentials });
    return await trustOf(credentials);
  }

  async function session(trust: Trust): Promise<RawSession> {
    const opened = await RawSession.open(member, trust);
    open.push(opened);
    return opened;
  }

  async function bulk(node: string, trust: Trust): Promise<BulkExchange> {
    const exchange = await bulkTo(member, node, trust);
    open.push(exchange);
    return exchange;
  }

  async function locate(by: RawSession, path: string): Promise<ChunkLocation> {
    const { inode } = await ann.files.stat(path);
    const page = await by.expect('blocks', { $case: 'readBlocks', value: { inode, first: 0, count: 1 } });
    const [found] = page.chunks;
    assert.ok(found !== undefined && found.replicas.length === 2, `${path} has one chunk on two nodes`);
    return found;
  }

  async function idsOf(by: RawSession): Promise<Replenished> {
    return await by.expect('replenished', { $case: 'replenish', value: { realm: 1, bytes: 1_000_000, chunks: 8 } });
  }

  const ticketAt = ({ replicas }: ChunkLocation, node: string): ReplicaTicket => {
    const found = replicas.find((replica) => replica.node === node);
    assert.ok(found !== undefined);
    return found;
  };
  const getOf = (location: ChunkLocation, node: string, token: Buffer): GetRequest => {
    const { ticket, expires } = ticketAt(location, node);
    const ticketExpires = expires ?? { seconds: 0, nanos: 0 };
    return { token, ticket, ticketExpires, chunk: chunkIdFromBytes(location.chunk), offset: 0, length: 300_000 };
  };
  const putOf = (chunkId: ChunkId, token: Buffer, change: Partial<PutRequest> = {}): PutRequest => ({
    token,
    chunk: chunkId,
    length: FORGED.length,
    inode: 1,
    block: 0,
    forwardTo: [],
    stable: true,
    ...change,
  });

  async function read(exchange: BulkExchange, request: GetRequest): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of exchange.get(request, { signal: signal() })) {
      pieces.push(Buffer.from(piece.bytes));
      piece.release();
    }
    return Buffer.concat(pieces);
  }

  async function getRefused(code: ErrorCode, exchange: BulkExchange, request: GetRequest, what: string): Promise<void> {
    await failsWith(
      code,
      read(exchange, request).then((bytes) => assert.fail(`${what}: ${bytes.length} bytes came`)),
      what,
    );
  }

  async function putRefused(code: ErrorCode, exchange: BulkExchange, request: PutRequest, what: string): Promise<void> {
    const put = exchange.put(request, encodeChunk([FORGED], { compress: false }), { signal: signal() });
    await failsWith(
      code,
      put.then((outcomes) => assert.fail(`${what}: it was taken: ${JSON.stringify(outcomes)}`)),
      what,
    );
  }

  test('D7: the right token with the right ticket reads the chunk from either node', async () => {
    for (const node of ['node-1', 'node-2'])
      assert.ok((await read(await bulk(node, annTrust), getOf(chunk, node, one.token))).equals(CONTENT), node);
  });

  test('D7: a ticket opens one chunk, on one node, for one session, until its time', async () => {
    const exchange = await bulk('node-1', annTrust);
    const mine = getOf(chunk, 'node-1', one.token);
    const cases: Record<string, GetRequest> = {
      'of another chunk': { ...mine, ticket: ticketAt(other, 'node-1').ticket },
      'of another node': { ...mine, ticket: ticketAt(chunk, 'node-2').ticket },
      'of another session of the same person': { ...mine, token: two.token },
      'with a later end': { ...mine, ticketExpires: { seconds: mine.ticketExpires.seconds + 60, nanos: 0 } },
      'that has ended': { ...mine, ticketExpires: { seconds: 1_700_000_000, nanos: 0 } },
      'with another bit': { ...mine, ticket: flipped(mine.ticket) },
      'that is missing': { ...mine, ticket: Buffer.alloc(0) },
    };
    for (const [name, request] of Object.entries(cases))
      await getRefused('token_invalid', exchange, request, `a ticket ${name}`);
    assert.ok((await read(exchange, mine)).equals(CONTENT), 'refusals do not end the connection');
  });

  test('D7: a token serves the subject that it names, as it was signed by the coordinator', async () => {
    const exchange = await bulk('node-1', beaTrust);
    await getRefused('token_invalid', exchange, getOf(chunk, 'node-1', one.token), "ann's token on bea's connection");
    await getRefused('token_invalid', exchange, getOf(chunk, 'node-1', bea.token), "bea's token, ann's ticket");

    const anns = await bulk('node-1', annTrust);
    const claims = AccessClaims.decode(SignedAccess.decode(one.token).claims);
    const { privateKey } = generateKeyPairSync('ed25519');
    for (const [name, token] of [
      ['with another bit', flipped(one.token)],
      ['signed by another key of the same name', signAccess(claims, privateKey)],
      ['of an unknown key', signAccess({ ...claims, keyId: 'mine' }, privateKey)],
      ['that is missing', Buffer.alloc(0)],
      ['with changed claims', withClaims(one.token, { ...claims, subject: 'spiffe://alice.home/user/bea' })],
    ] as const)
      await getRefused('token_invalid', anns, getOf(chunk, 'node-1', token), `a token ${name}`);
  });

  test('D7: puts stay within the ids, the rights and the epoch of their token, and a refused one leaves nothing', async () => {
    const exchange = await bulk('node-1', annTrust);
    const mine = await idsOf(one);
    const theirs = await idsOf(two);
    const epoch = mine.epoch ?? { generation: 0, start: 0 };
    const id = chunkIdOf(epoch, mine.firstChunk);
    const token = mine.access?.token ?? one.token;
    const cases: [string, ChunkId][] = [
      ['of another session', chunkIdOf(epoch, theirs.firstChunk)],
      ['beyond every range', chunkIdOf(epoch, 2 ** 48)],
      ['of the start before', chunkIdOf({ ...epoch, start: epoch.start - 1 }, mine.firstChunk)],
      ['of the start to come', chunkIdOf({ ...epoch, start: epoch.start + 1 }, mine.firstChunk)],
      ['of another generation', chunkIdOf({ ...epoch, generation: epoch.generation - 1 }, mine.firstChunk)],
      ['that exists already', chunkIdFromBytes(chunk.chunk)],
    ];
    for (const [name, chunkId] of cases)
      await putRefused('token_invalid', exchange, putOf(chunkId, token), `an id ${name}`);
    await putRefused('token_invalid', exchange, putOf(id, two.token), 'the token of another session');
    await putRefused('token_invalid', await bulk('node-1', beaTrust), putOf(id, token), "ann's token as bea");
    await putRefused(
      'permission_denied',
      await bulk('node-1', readerTrust),
      putOf(id, reader.token),
      'a token to read',
    );

    for (const { name } of member.nodes)
      assert.equal(await holds(name, FORGED.subarray(0, 64)), false, `${name} has none of the refused bytes`);
    assert.ok((await ann.files.readAll('/content.raw')).equals(CONTENT));
    for (const node of ['node-1', 'node-2']) {
      const encoded = encodeChunk([FORGED], { compress: false });
      const [outcome] = await (await bulk(node, annTrust)).put(putOf(id, token), encoded, { signal: signal() });
      assert.deepEqual(
        [outcome?.node, outcome?.failure],
        [node, undefined],
        'the same put with its own right is taken',
      );
    }
    assert.equal(await holds('node-2', FORGED.subarray(0, 64)), true);
  });

  test('D2, D7: who knows the id of a chunk that another session has put cannot commit it', async () => {
    const given = await idsOf(one);
    const epoch = given.epoch ?? { generation: 0, start: 0 };
    const id = chunkIdOf(epoch, given.firstChunk);
    const encoded = encodeChunk([FORGED], { compress: false });
    const { digest, storedLength } = encoded;
    const exchange = await bulk('node-1', annTrust);
    const token = given.access?.token ?? one.token;
    const replicas = await exchange.put(putOf(id, token, { forwardTo: ['node-2'] }), encoded, { signal: signal() });
    assert.deepEqual(
      replicas.map(({ failure }) => failure),
      [undefined, undefined],
    );
    const commitOf = (name: string, chunkId: ChunkId): OperationBody => {
      const named = chunkIdToBytes(chunkId);
      const content = {
        size: FORGED.length,
        slices: [{ offset: 0, length: FORGED.length, chunk: named, chunkOffset: 0 }],
        chunks: [{ chunk: named, length: FORGED.length, storedLength, digest, replicas }],
        mtime: undefined,
        xattrs: [],
      };
      return {
        $case: 'makeNode',
        value: {
          parent: ROOT_INODE,
          name: Buffer.from(name),
          type: InodeType.FILE,
          mode: 0o644,
          umask: 0,
          rdev: 0,
          linkTarget: Buffer.alloc(0),
          existing: Existing.FAIL,
          content,
          targetHeld: false,
          targetInode: 0,
        },
      };
    };
    for (const [name, by, chunkId] of [
      ['that another session has put', two, id],
      ['beyond every range', one, chunkIdOf(epoch, 2 ** 48)],
      ['of the start before', one, chunkIdOf({ ...epoch, start: epoch.start - 1 }, given.firstChunk)],
      ['of the start to come', one, chunkIdOf({ ...epoch, start: epoch.start + 1 }, given.firstChunk)],
    ] as const)
      await failsWith('chunk_foreign', by.call(commitOf('stolen.raw', chunkId)), `a commit of an id ${name}`);
    await assert.rejects(ann.files.stat('/stolen.raw'), { code: 'not_found' });
    await one.expect('attributes', commitOf('own.raw', id));
    assert.ok((await ann.files.readAll('/own.raw')).equals(FORGED));
    // From here on it is the chunk of a file, and nobody else's at all.
    await failsWith('permission_denied', two.call(commitOf('stolen.raw', id)), 'a commit of a chunk that is in a file');
  });

  test('D7: a right to read gives the bytes and no right to write, whatever it claims', async () => {
    const page = await locate(reader, '/content.raw');
    const exchange = await bulk('node-2', readerTrust);
    assert.ok((await read(exchange, getOf(page, 'node-2', reader.token))).equals(CONTENT));
    const claims = AccessClaims.decode(SignedAccess.decode(reader.token).claims);
    assert.equal(claims.rights, AccessRights.ACCESS_READ);
    const wider = withClaims(reader.token, { ...claims, rights: AccessRights.ACCESS_READ_WRITE });
    await putRefused(
      'token_invalid',
      exchange,
      putOf(chunkIdOf(claims.epoch ?? { generation: 0, start: 0 }, claims.firstChunk), wider),
      'a wider right',
    );
  });

  test('M2a, D7: after a restart of the coordinator the nodes refuse the tokens of the epoch before, also when they restart themselves', async () => {
    const before = getOf(chunk, 'node-1', one.token);
    const { epoch: old } = await member.status();
    await member.coordinator.kill();
    await member.coordinator.start();
    const { epoch } = await member.untilStatus(
      ({ nodes }) => nodes.length === 2 && nodes.every(({ state }) => state === 'ready'),
      'both nodes have registered with the new start',
      20_000,
    );
    assert.ok(epoch.start > old.start && epoch.generation === old.generation);
    await member.untilFollows('node-1', 20_000);
    const claims = AccessClaims.decode(SignedAccess.decode(one.token).claims);
    for (const restart of [false, true]) {
      if (restart) {
        await member.node('node-1').kill();
        await member.node('node-1').start();
      }
      const exchange = await bulk('node-1', annTrust);
      await getRefused('token_invalid', exchange, before, 'a get with the token of before');
      const id = chunkIdOf(old, claims.firstChunk + 100);
      await putRefused('token_invalid', exchange, putOf(id, one.token), 'a put with the token of before');
      const fresh = await session(annTrust);
      const found = getOf(await locate(fresh, '/content.raw'), 'node-1', fresh.token);
      assert.ok((await read(exchange, found)).equals(CONTENT), 'the new epoch is served');
    }
  });

  async function holds(node: string, bytes: Buffer): Promise<boolean> {
    const folder = join(member.folder, node, 'store');
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    for (const entry of entries.filter((one) => one.isFile()))
      if ((await readFile(join(entry.parentPath, entry.name))).includes(bytes)) return true;
    return false;
  }
});

function flipped(bytes: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

/** Other claims under the old signature. */
function withClaims(token: Buffer, claims: AccessClaims): Buffer {
  const { signature } = SignedAccess.decode(token);
  return Buffer.from(
    SignedAccess.encode({ claims: Buffer.from(AccessClaims.encode(claims).finish()), signature }).finish(),
  );
}

async function failsWith(code: ErrorCode, promise: Promise<unknown>, what: string): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof CollectiveError, `${what}: ${String(thrown)}`);
    assert.equal(thrown.code, code, `${what}: ${thrown.message}`);
    return true;
  });
}
