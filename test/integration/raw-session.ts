/**
 * A client that does as it likes: speaks the session stream message by message and shows any certificate, so that tests
 * can ask for what the SDK never would. One operation at a time.
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import { parseMemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';
import { WIRE_VERSION } from '@collective/base/limits';
import { SystemClock } from '@collective/base/system-clock';
import { GrpcSessionConnector } from '@collective/client/grpc-session-connector';
import { BulkExchange } from '@collective/protocol/bulk/exchange';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import {
  type Attached,
  ClientMessage,
  Durability,
  type Operation,
  type Reply,
  type ServerMessage,
} from '@collective/protocol/gen/session';
import type { Link } from '@collective/protocol/link/link';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseSpiffeId, type SpiffeId } from '@collective/protocol/tls/spiffe-id';
import { readTrustPems, type Trust } from '@collective/protocol/tls/trust-files';
import { parseBundle, parseTrustSet, type TrustPems, type TrustSet } from '@collective/protocol/tls/trust-set';
import type { RunningMember } from './running-member.ts';

const ANSWER_WITHIN_MS = 60_000;
export const clock = new SystemClock();
export const signal = (): AbortSignal => AbortSignal.timeout(ANSWER_WITHIN_MS);

export type OperationBody = NonNullable<Operation['op']>;
export type Result = NonNullable<Reply['result']>;
export type ResultValue<C extends Result['$case']> = Extract<Result, { $case: C }>['value'];

export class RawSession implements Disposable {
  readonly attached: Attached;
  readonly #link: Link<ClientMessage, ServerMessage>;
  #number = 0;

  static async open(member: RunningMember, trust: Trust): Promise<RawSession> {
    const connector = new GrpcSessionConnector({
      address: `127.0.0.1:${member.coordinatorPort}`,
      expected: { trustDomain: member.trustDomain as TrustDomain, role: 'coordinator' },
      trust,
      clock,
    });
    const link = await connector.open(signal());
    try {
      const attach = { wireVersion: WIRE_VERSION, clientId: randomBytes(16), listener: 'internal', program: 'raw' };
      link.send(ClientMessage.create({ message: { $case: 'attach', value: attach } }));
      const first = (await link.receive(signal()))?.message;
      if (first?.$case === 'refused') throw fromFailure(first.value.failure ?? NO_FAILURE);
      if (first?.$case !== 'attached') throw new CollectiveError('internal', `Attach: ${first?.$case} came`);
      return new RawSession(link, first.value);
    } catch (error) {
      link.close();
      throw error;
    }
  }

  private constructor(link: Link<ClientMessage, ServerMessage>, attached: Attached) {
    this.#link = link;
    this.attached = attached;
  }

  get token(): Buffer {
    return this.attached.access?.token ?? Buffer.alloc(0);
  }

  /** The result, or the failure thrown. */
  async call(op: OperationBody, change: Partial<Operation> = {}): Promise<Result> {
    const number = ++this.#number;
    const operation = { number, step: 0, durability: Durability.STABLE, op, ...change };
    const value = { operations: [operation], acknowledged: [] };
    this.#link.send(ClientMessage.create({ message: { $case: 'operations', value } }));
    for (;;) {
      const message = (await this.#link.receive(signal()))?.message;
      if (message === undefined) throw new CollectiveError('unavailable', `Call ${op.$case}: the stream was closed`);
      if (message.$case === 'refused') throw fromFailure(message.value.failure ?? NO_FAILURE);
      if (message.$case === 'recall') {
        const done = { sequence: message.value.sequence, open: false, blockedBy: [] };
        this.#link.send(ClientMessage.create({ message: { $case: 'recallDone', value: done } }));
      }
      if (message.$case !== 'replies') continue;
      const reply = message.value.replies.find((one) => one.number === number);
      if (reply?.result === undefined) continue;
      if (reply.result.$case === 'failure') throw fromFailure(reply.result.value);
      return reply.result;
    }
  }

  async expect<C extends Result['$case']>(wanted: C, op: OperationBody): Promise<ResultValue<C>> {
    const result = await this.call(op);
    if (result.$case !== wanted) throw new CollectiveError('internal', `Call ${op.$case}: ${result.$case} came`);
    return result.value as ResultValue<C>;
  }

  [Symbol.dispose](): void {
    this.#link.close();
  }
}

const NO_FAILURE = { code: 'internal', message: 'Refused without a reason', details: {} };

/** A connection to a node's bulk port, greeted. */
export async function bulkTo(member: RunningMember, node: string, trust: Trust): Promise<BulkExchange> {
  const target = { name: node, host: '127.0.0.1', port: member.nodePorts.get(node) ?? 0 };
  const connection = await new TlsBulkConnector({ trust, clock }).connect(target, signal());
  return await BulkExchange.open(connection, { clock, program: 'raw' }, signal());
}

/** What lies in a folder of a peer. */
export async function trustOf(folder: string): Promise<Trust> {
  return fixedTrust(parseTrustSet(await readTrustPems(folder), folder));
}

/** Shows one certificate and believes in other roots: `as` is who our own side takes itself for. */
export function forgedTrust(shown: TrustPems, bundlePem: string, as: string): Trust {
  const id: SpiffeId = parseSpiffeId(as);
  const roots = parseBundle(bundlePem, 'the bundle');
  const set: TrustSet = { ...parsed(shown), id, roots, bundlePem, bundleHash: 'none' };
  return fixedTrust(set);
}

function parsed(pems: TrustPems): TrustSet {
  try {
    return parseTrustSet(pems, 'a forged certificate');
  } catch {
    // Two URIs, none, a foreign root: our own side does not read it, the other side shall.
    const leaf = new X509Certificate(pems.certificatePem);
    return { ...pems, leaf, notBeforeMs: 0, notAfterMs: Number.MAX_SAFE_INTEGER } as TrustSet;
  }
}

export function fixedTrust(set: TrustSet): Trust {
  return { current: set, onChange: () => () => undefined };
}

/** Signs what it is asked to with the member's own key, as its thief would. */
export async function stolenAuthority(member: RunningMember): Promise<ScratchAuthority> {
  const folder = join(member.folder, 'coordinator', 'ca');
  const [certificatePem, keyPem] = await Promise.all(
    ['ca.crt', 'ca.key'].map((name) => readFile(join(folder, name), 'utf8')),
  );
  return await ScratchAuthority.load(domainOf(member.trustDomain), {
    certificatePem: certificatePem ?? '',
    keyPem: keyPem ?? '',
  });
}

export function domainOf(text: string): TrustDomain {
  const dot = text.indexOf('.');
  return trustDomainOf(parseMemberName(text.slice(0, dot)), text.slice(dot + 1));
}
