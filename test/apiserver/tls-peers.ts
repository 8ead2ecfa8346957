/**
 * Peers of a member as far as TLS goes: each holds what it mounted last and fits together, servers take new sets without a
 * restart, and everybody who dials somebody does so all the time, over a connection that is kept and over new ones.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type TLSSocket } from 'node:tls';
import { SystemClock } from '@collective/base/system-clock';
import type { LeafWish, PeerReport } from '@collective/operator/ca/certificate-picture';
import { serverCheck } from '@collective/protocol/tls/peer-identity';
import { parseSpiffeId } from '@collective/protocol/tls/spiffe-id';
import { secureContextOptions } from '@collective/protocol/tls/trust-files';
import { isIssuedBy, parseTrustSet, type TrustPems, type TrustSet } from '@collective/protocol/tls/trust-set';

const ANSWER_WITHIN_MS = 60_000;
const clock = new SystemClock();

export class TlsPeer implements AsyncDisposable {
  readonly wish: LeafWish;
  #set: TrustSet | undefined;
  #server: Server | undefined;
  readonly #sockets = new Set<TLSSocket>();
  readonly #kept = new Map<string, TLSSocket>();

  constructor(wish: LeafWish) {
    this.wish = wish;
  }

  get set(): TrustSet | undefined {
    return this.#set;
  }

  get report(): PeerReport {
    const set = this.#set;
    const root = set?.roots.find((one) => isIssuedBy(set.leaf, one));
    return {
      peer: this.wish.uri,
      bundleHash: set?.bundleHash ?? '',
      ...(root === undefined ? {} : { rootFingerprint: root.fingerprint256 }),
      connected: set !== undefined,
    };
  }

  /** As the programs do: a set that does not fit together leaves the last one in use. */
  async mount(pems: TrustPems): Promise<void> {
    try {
      this.#set = parseTrustSet(pems, this.wish.name);
    } catch {
      return;
    }
    if (this.wish.usages !== 'server') return;
    if (this.#server !== undefined) return this.#server.setSecureContext(secureContextOptions(this.#set));
    const server = createServer({ ...secureContextOptions(this.#set), requestCert: true, rejectUnauthorized: true });
    server.on('secureConnection', (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => this.#sockets.delete(socket));
      socket.pipe(socket);
    });
    server.on('tlsClientError', () => undefined);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#server = server;
  }

  /** Over the kept connection, and over a new one with a handshake of its own. */
  async talkTo(other: TlsPeer): Promise<void> {
    const kept = this.#kept.get(other.wish.uri) ?? (await this.dial(other));
    this.#kept.set(other.wish.uri, kept);
    await echo(kept);
    const fresh = await this.dial(other);
    try {
      await echo(fresh);
    } finally {
      fresh.destroy();
    }
  }

  async dial(other: TlsPeer, set = this.#set): Promise<TLSSocket> {
    assert.ok(set !== undefined && other.#server !== undefined);
    const { role, name, trustDomain } = parseSpiffeId(other.wish.uri);
    assert.ok(role === 'coordinator' || role === 'node');
    const { roots } = set;
    const socket = connect({
      ...secureContextOptions(set),
      host: '127.0.0.1',
      port: (other.#server.address() as AddressInfo).port,
      servername: other.wish.dnsName,
      checkServerIdentity: serverCheck(() => ({ trustDomain, roots }), { trustDomain, role, name }, clock),
    });
    try {
      await once(socket, 'secureConnect', { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    } catch (thrown) {
      socket.destroy();
      throw thrown;
    }
    socket.on('error', () => socket.destroy());
    return socket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of [...this.#kept.values(), ...this.#sockets]) socket.destroy();
    const server = this.#server;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }
}

/** TLS 1.3: only an answer shows that the server has accepted the client. */
export async function echo(socket: TLSSocket): Promise<void> {
  const answered = Promise.withResolvers<void>();
  const [done, ended] = [() => answered.resolve(), () => answered.reject(new Error('the connection was closed'))];
  const timer = clock.setTimer(ANSWER_WITHIN_MS, ended);
  socket.once('data', done).once('close', ended);
  if (socket.destroyed) ended();
  socket.write('a block');
  try {
    await answered.promise;
  } finally {
    timer.cancel();
    socket.off('data', done).off('close', ended);
  }
}
