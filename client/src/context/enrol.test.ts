/** T3: an answer that was lost does not cost the token, whoever asks again: real gRPC, a server that loses what it is told to. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { toServiceError } from '@collective/protocol/errors/grpc-status';
import { type EnrolmentServer, EnrolmentService, type EnrolRequest } from '@collective/protocol/gen/admin';
import { serverCredentials } from '@collective/protocol/tls/grpc-credentials';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { readTrustPems } from '@collective/protocol/tls/trust-files';
import { parseTrustSet } from '@collective/protocol/tls/trust-set';
import { Server } from '@grpc/grpc-js';
import { enrol } from './enrol.ts';

const alice = trustDomainOf('alice' as MemberName, 'home');
const authority = await ScratchAuthority.create(alice);
const identity = await authority.peer('coordinator');
const root = await mkdtemp(join(tmpdir(), 'collective-enrol-'));
after(() => rm(root, { recursive: true, force: true }));
const PENDING = '..enrolling.json';

/** What the member does with the next request. */
type Answer = 'certificate' | 'lost' | 'token_invalid';

class ScriptedMember implements AsyncDisposable {
  readonly requests: EnrolRequest[] = [];
  readonly #server = new Server();
  /** Between the two, so that it can be cut. */
  readonly #wire = createServer();
  readonly #sockets = new Set<Socket>();
  #answers: Answer[] = [];
  port = 0;

  static async start(): Promise<ScriptedMember> {
    const member = new ScriptedMember();
    await member.#listen();
    return member;
  }

  async #listen(): Promise<void> {
    this.#server.addService(EnrolmentService, {
      enrol: async (call, callback) => {
        this.requests.push(call.request);
        switch (this.#answers.shift()) {
          case 'lost':
            // As when the machine goes down behind the use of the token.
            for (const socket of this.#sockets) socket.destroy();
            return;
          case 'token_invalid':
            callback(toServiceError(new CollectiveError('token_invalid', 'The token has expired'), 'Enrol'));
            return;
          default: {
            const certificatePem = await authority.sign(call.request.csr);
            callback(null, { certificatePem, bundlePem: authority.bundlePem, subject: 'spiffe://alice.home/user/ann' });
          }
        }
      },
    } satisfies EnrolmentServer);
    const behind = await new Promise<number>((resolve, reject) => {
      const credentials = serverCredentials({ current: identity, onChange: () => () => undefined });
      this.#server.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    this.#wire.on('connection', (socket) => {
      const onward = connect(behind, '127.0.0.1');
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#sockets.add(from);
        from.on('error', () => to.destroy()).on('close', () => to.destroy());
        from.pipe(to);
      }
    });
    this.#wire.listen(0, '127.0.0.1');
    await once(this.#wire, 'listening');
    this.port = (this.#wire.address() as AddressInfo).port;
  }

  /** One enrolment, as a command that is started for it. */
  async enrol(folder: string, answer: Answer, token = 'col1-first', name = 'ann'): Promise<void> {
    this.#answers = [answer];
    await enrol({
      coordinator: `127.0.0.1:${this.port}`,
      trustDomain: alice,
      caPem: authority.bundlePem,
      token,
      role: 'user',
      name,
      credentials: folder,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#wire.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.forceShutdown();
  }
}

const isCode = (code: string) => (thrown: unknown) => thrown instanceof CollectiveError && thrown.code === code;

/** A folder for which one answer was lost, and the request that it was for. */
async function afterLostAnswer(name: string): Promise<{ folder: string; request: EnrolRequest }> {
  const folder = join(root, name);
  await using member = await ScriptedMember.start();
  await assert.rejects(member.enrol(folder, 'lost'), isCode('unavailable'));
  const [request] = member.requests;
  assert.ok(request !== undefined && member.requests.length === 1);
  return { folder, request };
}

test('T3: whoever asks again after a lost answer asks with the same key, and its files fit together', async () => {
  const { folder, request } = await afterLostAnswer('again');
  assert.equal((await stat(join(folder, PENDING))).mode & 0o777, 0o600);
  await using member = await ScriptedMember.start();
  await member.enrol(folder, 'certificate');
  assert.deepEqual(member.requests, [request]);
  // Throws unless key and certificate belong together.
  assert.equal(parseTrustSet(await readTrustPems(folder), 'the files').id.uri, 'spiffe://alice.home/user/ann');
  assert.ok(!(await readdir(folder)).includes(PENDING), 'the key lies in one place only');
});

for (const [what, token, name] of [
  ['another token', 'col1-other', 'ann'],
  ['another name', 'col1-first', 'ben'],
] as const) {
  test(`T3: ${what} gets a key of its own`, async () => {
    const { folder, request } = await afterLostAnswer(what);
    await using member = await ScriptedMember.start();
    await assert.rejects(member.enrol(folder, 'lost', token, name), isCode('unavailable'));
    assert.equal(member.requests.length, 1);
    assert.notDeepEqual(member.requests[0]?.csr, request.csr);
  });
}

test('a refusal ends it: the next try makes a new key', async () => {
  const { folder, request } = await afterLostAnswer('refused');
  await using member = await ScriptedMember.start();
  await assert.rejects(member.enrol(folder, 'token_invalid'), isCode('token_invalid'));
  assert.ok(!(await readdir(folder)).includes(PENDING));
  await member.enrol(folder, 'certificate');
  assert.notDeepEqual(member.requests[1]?.csr, request.csr);
});

test('what cannot be read of an earlier try is as if it had not been', async () => {
  const { folder } = await afterLostAnswer('torn');
  for (const text of ['', '{"token":', '[]', '{"token":"x"}', 'null']) {
    await writeFile(join(folder, PENDING), text);
    await using member = await ScriptedMember.start();
    await member.enrol(folder, 'certificate');
  }
});
