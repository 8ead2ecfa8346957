/** What sessions see of the nodes: routes, placement, tokens and tickets (D7, D8, D10), out of the node table and the keys. */
import { type Clock, wallMs } from '@collective/base/clock';
import type { ChunkId, NodeName, SessionId } from '@collective/base/ids';
import { ACCESS_TOKEN_LIFETIME_MS } from '@collective/base/limits';
import type { Random } from '@collective/base/random';
import { makeTicket } from '@collective/protocol/access/ticket';
import { signAccess } from '@collective/protocol/access/token';
import type { AccessToken, NodeRoute } from '@collective/protocol/gen/common';
import { AccessRights } from '@collective/protocol/gen/node';
import type { Placement, ReplicaTicket } from '@collective/protocol/gen/session';
import type { StoreState } from '../ops/replica-stability.ts';
import { chooseReplicas } from '../placement/choose-replicas.ts';
import { readablePlaces } from '../placement/readable-places.ts';
import type { AccessRequest, DataAccess } from '../session/data-access.ts';
import type { StableAnswer } from '../session/stability-proof.ts';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import type { AccessKeys } from './access-keys.ts';
import type { NodeTable } from './node-table.ts';

/** A reader may keep a block map for a while: tickets live longer than tokens, without which they are of no use. */
const TICKET_LIFETIME_SECONDS = 900;
/** Expiry is rounded up to this, so that equal tickets come out equal. */
const TICKET_GRAIN_SECONDS = 60;

export interface MemberDataParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly nodes: NodeTable;
  readonly keys: AccessKeys;
  makeStable(node: NodeName, chunks: readonly ChunkId[]): Promise<StableAnswer>;
}

export class MemberData implements DataAccess {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #nodes: NodeTable;
  readonly #keys: AccessKeys;
  readonly #makeStable: MemberDataParts['makeStable'];

  constructor(parts: MemberDataParts) {
    this.#makeStable = (node, chunks) => parts.makeStable(node, chunks);
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#nodes = parts.nodes;
    this.#keys = parts.keys;
  }

  routes(listener: string): NodeRoute[] {
    return this.#nodes.routes(listener);
  }

  place(wanted: number, sets: number): Placement[] {
    return chooseReplicas(this.#nodes.candidates(), wanted, sets, this.#random).map((nodes) => ({ nodes }));
  }

  freeBytes(): { capacityBytes: number; freeBytes: number } {
    return this.#nodes.space();
  }

  issueAccess(request: AccessRequest): AccessToken {
    const { id, privateKey } = this.#keys.signing;
    const expires = { seconds: Math.floor((wallMs(this.#clock) + ACCESS_TOKEN_LIFETIME_MS) / 1000), nanos: 0 };
    const token = signAccess(
      {
        subject: request.subject,
        session: request.session,
        rights: request.write ? AccessRights.ACCESS_READ_WRITE : AccessRights.ACCESS_READ,
        epoch: request.epoch,
        firstChunk: request.firstChunk,
        lastChunk: request.lastChunk,
        expires,
        keyId: id,
      },
      privateKey,
    );
    return { token, expires };
  }

  readable(places: readonly ReplicaPlace[]): readonly ReplicaPlace[] {
    return readablePlaces(places, (node) => this.#nodes.get(node as NodeName)?.row.disk);
  }

  store(node: string): StoreState | undefined {
    return this.#nodes.get(node as NodeName)?.report;
  }

  makeStable(node: string, chunks: readonly ChunkId[]): Promise<StableAnswer> {
    return this.#makeStable(node as NodeName, chunks);
  }

  ticket(node: string, chunk: ChunkId, session: SessionId): ReplicaTicket | undefined {
    const name = node as NodeName;
    if (this.#nodes.get(name) === undefined) return undefined;
    const expiresSeconds =
      Math.ceil((wallMs(this.#clock) / 1000 + TICKET_LIFETIME_SECONDS) / TICKET_GRAIN_SECONDS) * TICKET_GRAIN_SECONDS;
    return {
      node,
      ticket: makeTicket(this.#keys.ticketKey(name), { chunk, session, expiresSeconds }),
      expires: { seconds: expiresSeconds, nanos: 0 },
    };
  }
}
