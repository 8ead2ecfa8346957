/** For tests: the other end of a session over memory links. The test reads what came and says what is answered. */
import type { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import type { AccessToken, NodeRoute } from '@collective/protocol/gen/common';
import type {
  Attach,
  Attached,
  ClientMessage,
  Operation,
  RealmAccesses,
  Reply,
  ServerMessage,
} from '@collective/protocol/gen/session';
import { type MemoryLinkPair, memoryLinkPair } from '@collective/protocol/link/memory-link';
import type { OperationBody, Result } from './operation-kinds.ts';
import { Session } from './session.ts';
import type { SessionConnector } from './session-connector.ts';
import type { SessionOptions } from './session-options.ts';

export const EMPTY: Result = { $case: 'empty', value: {} };

export class ScriptedCoordinator {
  readonly clock: FakeClock;
  readonly attaches: Attach[] = [];
  /** Operations in the order of their arrival, over all streams. */
  readonly operations: Operation[] = [];
  readonly messages: NonNullable<ClientMessage['message']>[] = [];
  readonly acknowledged: number[] = [];
  /** Changed by tests before the next attach. */
  attached: Attached;
  stablePosition = 0;
  /** Answers operations as they come; undefined: the test answers later. */
  answer: (operation: Operation) => Partial<Reply> | undefined = () => undefined;
  /** Set: the next attach is refused with this code. */
  refuse: string | undefined;
  renews = true;
  /** What renewals carry. */
  nodes: () => NodeRoute[] = () => [];
  access: () => AccessToken | undefined = () => undefined;
  realmsChanged: () => RealmAccesses | undefined = () => undefined;
  reachable = true;
  #pair: MemoryLinkPair<ClientMessage, ServerMessage> | undefined;

  constructor(clock: FakeClock) {
    this.clock = clock;
    this.attached = attachedBy(1);
  }

  get connector(): SessionConnector {
    return {
      address: 'test:1',
      open: async () => {
        const pair = memoryLinkPair<ClientMessage, ServerMessage>({ clock: this.clock });
        if (!this.reachable) {
          pair.cut();
          return pair.left;
        }
        this.#pair = pair;
        void this.#serve(pair);
        return pair.left;
      },
    };
  }

  async session(options: Partial<SessionOptions> = {}): Promise<Session> {
    const attaching = Session.attach({
      clock: this.clock,
      random: new SeededRandom(1),
      connector: this.connector,
      program: 'test',
      listener: 'internal',
      ...options,
    });
    return await this.clock.finish(attaching);
  }

  send(message: NonNullable<ServerMessage['message']>): void {
    this.#pair?.right.send({ message });
  }

  reply(operation: Operation, reply: Partial<Reply>): void {
    const whole = { position: 0, drawn: undefined, promises: [], result: EMPTY, ...reply };
    const { number, step } = operation;
    this.send({
      $case: 'replies',
      value: { replies: [{ ...whole, number, step }], stablePosition: this.stablePosition },
    });
  }

  /** Both sides notice. */
  cut(): void {
    this.#pair?.cut();
  }

  cases(): string[] {
    return this.operations.map(({ op }) => op?.$case ?? '?');
  }

  async #serve(pair: MemoryLinkPair<ClientMessage, ServerMessage>): Promise<void> {
    try {
      for (let next = await pair.right.receive(); next?.message !== undefined; next = await pair.right.receive())
        this.#take(next.message);
    } catch {
      // The test cut the link.
      return;
    }
  }

  #take(message: NonNullable<ClientMessage['message']>): void {
    this.messages.push(message);
    switch (message.$case) {
      case 'attach':
        this.attaches.push(message.value);
        if (this.refuse !== undefined) {
          const failure = { code: this.refuse, message: 'Attach', details: {} };
          this.refuse = undefined;
          this.send({ $case: 'refused', value: { failure } });
          return;
        }
        this.attached = { ...this.attached, incarnation: this.attached.incarnation + 1 };
        this.send({ $case: 'attached', value: this.attached });
        return;
      case 'operations':
        this.acknowledged.push(...message.value.acknowledged);
        for (const operation of message.value.operations) {
          this.operations.push(structuredClone(operation));
          const reply = this.answer(operation);
          if (reply !== undefined) this.reply(operation, reply);
        }
        return;
      case 'renew':
        this.acknowledged.push(...message.value.acknowledged);
        if (!this.renews) return;
        this.send({
          $case: 'renewed',
          value: {
            number: message.value.number,
            stablePosition: this.stablePosition,
            access: this.access(),
            nodes: this.nodes(),
            realms: this.realmsChanged(),
            trust: undefined,
          },
        });
        return;
      case 'detach':
        this.send({ $case: 'detached', value: {} });
        return;
      default:
        return;
    }
  }
}

export function attachedBy(start: number, changes: Partial<Attached> = {}): Attached {
  return {
    session: 7,
    incarnation: 0,
    epoch: { generation: 1000, start },
    recoveredPosition: Number.MAX_SAFE_INTEGER,
    trust: undefined,
    member: 'alice',
    trustDomain: 'alice.home',
    realms: [
      { realm: 1, root: 1, path: '/', readOnly: false, replicas: 2, minReplicas: 1, compression: true, within: false },
    ],
    trusted: true,
    uid: 0,
    promiseLeaseMs: 10_000,
    sessionLeaseMs: 90_000,
    nodes: [],
    resumed: true,
    features: [],
    version: 'test',
    access: undefined,
    uidOwnerGid: 0,
    ...changes,
  };
}

export function getAttributes(inode: number): OperationBody {
  return { $case: 'getAttributes', value: { inode, opens: false } };
}

export function removeXattr(inode: number): OperationBody {
  return { $case: 'removeXattr', value: { inode, name: 'user.x' } };
}

export function lockWaiting(inode: number): OperationBody {
  const lock = { family: 1, type: 2, owner: 0, start: 0, end: 1, pid: 0 } as const;
  return { $case: 'setLock', value: { inode, lock, wait: true } };
}
