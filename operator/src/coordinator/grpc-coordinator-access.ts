/** `CoordinatorAccess` over gRPC: one connection a member, with an identity that is replaced in place when it is renewed (T4). */
import { type Admin, type AdminConnection, connectAdmin } from '@collective/client';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import type { ObjectKey } from '../kube/kube-object.ts';
import type { CoordinatorAccess, CoordinatorTarget } from './coordinator-access.ts';

/** Of one question; a reconcile waits for it, and another comes soon. */
const CALL_WITHIN_MS = 5_000;

interface Connected {
  readonly address: string;
  readonly trust: MemoryTrust;
  readonly connection: AdminConnection;
}

export interface GrpcCoordinatorAccessOptions {
  /** Where an address leads to, when it is not where the cluster's DNS says. */
  readonly resolve?: (address: string) => string;
  readonly callWithinMs?: number;
}

export class GrpcCoordinatorAccess implements CoordinatorAccess {
  readonly #resolve: (address: string) => string;
  readonly #callWithinMs: number;
  readonly #connected = new Map<string, Connected>();

  constructor({ resolve = (address) => address, callWithinMs = CALL_WITHIN_MS }: GrpcCoordinatorAccessOptions = {}) {
    this.#resolve = resolve;
    this.#callWithinMs = callWithinMs;
  }

  async admin({ key, address, trustDomain, identity }: CoordinatorTarget): Promise<Admin> {
    const name = `${key.namespace}/${key.name}`;
    const coordinator = this.#resolve(address);
    const known = this.#connected.get(name);
    if (known !== undefined && known.address === coordinator) {
      known.trust.replace(identity);
      return known.connection.admin;
    }
    this.forget(key);
    const trust = new MemoryTrust(identity, `the identity of the operator with ${trustDomain}`);
    const connection = await connectAdmin({ coordinator, trustDomain, trust, callWithinMs: this.#callWithinMs });
    this.forget(key);
    this.#connected.set(name, { address: coordinator, trust, connection });
    return connection.admin;
  }

  forget({ namespace, name }: ObjectKey): void {
    const known = this.#connected.get(`${namespace}/${name}`);
    this.#connected.delete(`${namespace}/${name}`);
    known?.connection[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const { connection } of this.#connected.values()) connection[Symbol.dispose]();
    this.#connected.clear();
  }
}
