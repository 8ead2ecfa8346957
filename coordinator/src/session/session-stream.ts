/**
 * One session stream from its attach to its end (M1): takes messages in order, hands operations to the runner, gathers the
 * answers of a turn into one message. A second stream of the same session fences this one (M5).
 */

import { assertNever } from '@collective/base/assert';
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { compareEpochs, type InodeNumber, type RealmId, type SessionId } from '@collective/base/ids';
import { ACCESS_TOKEN_LIFETIME_MS, PROMISE_LEASE_MS, SESSION_LEASE_MS, WIRE_VERSION } from '@collective/base/limits';
import type { TrustBundle } from '@collective/protocol/gen/common';
import type { Attach, Attached, ClientMessage, Replies, ServerMessage } from '@collective/protocol/gen/session';
import type { Link } from '@collective/protocol/link/link';
import { SPACE_RECALL } from '@collective/protocol/session-features';
import type { ReportedTrust } from '@collective/protocol/tls/trust-bundle';
import type { Engine } from '../engine/engine.ts';
import { ATTRIBUTES, DATA, ENTRIES, WRITE } from '../ops/context.ts';
import { prefixEnd } from '../tables/table.ts';
import { ANSWERS, EPOCHS } from '../tables/tables.ts';
import type { DataAccess } from './data-access.ts';
import type { OperationRunner } from './operation-runner.ts';
import type { PromiseKeeping } from './promise-keeping.ts';
import type { PromiseTable } from './promises.ts';
import { realmAccesses } from './realm-access.ts';
import type { RealmBook } from './realm-book.ts';
import type { Recalls } from './recalls.ts';
import type { Session } from './session.ts';
import type { SessionOperations } from './session-operations.ts';
import type { SessionRegistry } from './session-registry.ts';
import type { SpaceGrants } from './space-grants.ts';
import type { SpaceRecalls } from './space-recalls.ts';

export interface StreamParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly registry: SessionRegistry;
  readonly runner: OperationRunner;
  readonly promises: PromiseTable;
  readonly recalls: Recalls;
  readonly space: SpaceGrants;
  readonly spaceRecalls: SpaceRecalls;
  readonly operations: SessionOperations;
  readonly data: DataAccess;
  readonly keeping: PromiseKeeping;
  readonly book: RealmBook;
  readonly member: { readonly name: string; readonly trustDomain: string };
  readonly version: string;
  /** T6: what a peer that reports this is to be told of the member's roots. */
  told(peer: ReportedTrust): TrustBundle | undefined;
}

export type SessionLink = Link<ServerMessage, ClientMessage>;

/** What may be asked for at attach beyond version 1. */
const FEATURES: readonly string[] = [SPACE_RECALL];
const ATTACH_WITHIN_MS = 30_000;
/** Acknowledged answers whose rows no mutation took along are removed when so many wait. */
const ACKNOWLEDGED_WAITING_MAX = 256;

/** Who opened a stream, by its verified certificate. */
export interface StreamPeer {
  readonly uri: string;
  /** Unset where streams have no certificates. */
  readonly leaf?: Session['leaf'];
}

/** Serves a stream until it ends; never throws. */
export async function serveSession(
  link: SessionLink,
  peer: StreamPeer,
  parts: StreamParts,
  signal: AbortSignal,
): Promise<void> {
  const stream = new SessionStream(link, peer, parts);
  try {
    await stream.serve(signal);
  } catch (thrown) {
    stream.refuse(toCollectiveError(thrown, `Serve a session of ${peer.uri}`));
  } finally {
    stream.ended();
  }
}

class SessionStream {
  readonly #link: SessionLink;
  readonly #peer: StreamPeer;
  readonly #parts: StreamParts;
  #session: Session | undefined;
  #gathered: Replies | undefined;
  #attachTimer: Timer | undefined;
  #over = false;

  constructor(link: SessionLink, peer: StreamPeer, parts: StreamParts) {
    this.#link = link;
    this.#peer = peer;
    this.#parts = parts;
  }

  async serve(signal: AbortSignal): Promise<void> {
    const session = await this.#attach(signal);
    for (;;) {
      const received = await this.#link.receive(signal);
      if (received === undefined || this.#over) return;
      const { message } = received;
      if (message === undefined) continue;
      switch (message.$case) {
        case 'operations':
          session.acknowledge(message.value.acknowledged);
          this.#parts.runner.submit(session, message.value.operations);
          break;
        case 'renew':
          this.#renew(session, message.value);
          break;
        case 'recallDone':
          this.#parts.recalls.acknowledged(session.id, message.value);
          break;
        case 'giveBack':
          this.#parts.spaceRecalls.gaveBack(session, message.value);
          break;
        case 'replayed':
          session.replayed = true;
          void this.#settleReplays(session);
          break;
        case 'detach':
          session.outlet = undefined;
          await this.#parts.registry.end(session.id);
          this.#send({ message: { $case: 'detached', value: {} } });
          return;
        case 'attach':
          throw new CollectiveError('invalid_argument', 'Attach on a stream that is attached already');
        default:
          assertNever(message, 'client message');
      }
    }
  }

  /** The gate may open when what was sent again has been made again, in its order, before anybody else's changes (M4, M6). */
  async #settleReplays(session: Session): Promise<void> {
    await this.#parts.runner.replaysDone(session.id);
    // A stream that was overtaken leaves the rest to its successor.
    if (!this.#over) this.#parts.registry.gate.settled(session.id);
  }

  refuse(error: CollectiveError): void {
    if (this.#over) return;
    this.#send({
      message: { $case: 'refused', value: { failure: { code: error.code, message: error.message, details: {} } } },
    });
    this.#over = true;
    this.#link.close();
  }

  ended(): void {
    this.#flush();
    this.#over = true;
    this.#attachTimer?.cancel();
    if (this.#session?.outlet === this.#outlet) {
      this.#session.outlet = undefined;
      this.#parts.spaceRecalls.streamEnded(this.#session);
    }
    this.#link.close();
  }

  readonly #outlet = {
    send: (message: ServerMessage): void => this.#send(message),
    refuse: (error: Error): void => this.refuse(toCollectiveError(error, 'Serve a session')),
  };

  async #attach(signal: AbortSignal): Promise<Session> {
    const { clock, registry, runner, recalls, space } = this.#parts;
    this.#attachTimer = clock.setTimer(ATTACH_WITHIN_MS, () =>
      this.refuse(new CollectiveError('deadline_exceeded', `Attach: nothing came within ${ATTACH_WITHIN_MS} ms`)),
    );
    const first = await this.#link.receive(signal);
    this.#attachTimer.cancel();
    if (first?.message?.$case !== 'attach')
      throw new CollectiveError('invalid_argument', 'Open a session: the first message must be attach');
    const attach = first.message.value;
    if (attach.wireVersion !== WIRE_VERSION)
      throw new CollectiveError(
        'version_too_new',
        `Attach with wire version ${attach.wireVersion}: this coordinator speaks ${WIRE_VERSION}`,
      );
    this.#parts.keeping.requireShare(attach.session as SessionId, attach.openInodes.length + attach.held.length);
    const { session, resumed, incarnation } = await registry.attach(attach, this.#peer.uri, this.#peer.leaf);
    const attached = await this.#attached(attach, session, resumed);
    // From here on nothing waits: `attached` is the first message, and all that follows finds the new stream.
    registry.requireNewest(session, incarnation);
    session.outlet?.refuse(
      new CollectiveError('fenced', `Go on with session ${session.id}: incarnation ${incarnation} has taken over`),
    );
    runner.fence(session.id);
    this.#parts.spaceRecalls.streamEnded(session);
    const doubtful = resumed ? this.#takeUpPromises(attach, session) : [];
    if (resumed) {
      space.drop(session);
      for (const { realm, bytes } of attach.space)
        if (session.realmRight(realm as RealmId) === 'rw') space.restore(session, realm as RealmId, bytes);
    }
    session.givesSpaceBack = attach.features.includes(SPACE_RECALL);
    session.outlet = this.#outlet;
    this.#session = session;
    this.#send({ message: { $case: 'attached', value: attached } });
    recalls.resend(session);
    for (const inode of doubtful) void recalls.recall(session, inode, ATTRIBUTES | ENTRIES | DATA | WRITE, []);
    return session;
  }

  /**
   * Compares what the client believes to be promised with what is; answers the inodes of which it must drop what it caches.
   * Read promises end with the coordinator's epoch: which recalls the last start still owed is not known any more, so a
   * client that meets a new epoch drops what it caches under them. An exclusive promise was always recalled before the
   * change, so it holds on if nobody else has taken it.
   */
  #takeUpPromises(attach: Attach, session: Session): InodeNumber[] {
    const { promises, registry, engine } = this.#parts;
    const restarted = attach.lastEpoch === undefined || compareEpochs(attach.lastEpoch, engine.epoch) !== 0;
    const doubtful: InodeNumber[] = [];
    for (const { inode: value, kinds } of attach.held) {
      const inode = value as InodeNumber;
      const claimed = restarted ? kinds & WRITE : kinds;
      if (restarted && !registry.gate.open && claimed !== 0) promises.grant(session.id, inode, claimed);
      if ((promises.held(session.id, inode) & claimed) !== claimed) doubtful.push(inode);
    }
    return doubtful;
  }

  async #attached(attach: Attach, session: Session, resumed: boolean): Promise<Attached> {
    const { engine, data, operations, member, version, book } = this.#parts;
    session.realmsTold = book.version;
    const { realms, recovered } = await engine.run((tx) => ({
      realms: realmAccesses(tx, session),
      recovered:
        attach.lastEpoch === undefined
          ? undefined
          : tx.scan(
              EPOCHS,
              EPOCHS.key(attach.lastEpoch.generation, attach.lastEpoch.start + 1),
              prefixEnd(EPOCHS.prefix),
              1,
            )[0]?.value.recovered,
    }));
    return {
      session: session.id,
      incarnation: session.incarnation,
      epoch: engine.epoch,
      // The same epoch still runs: nothing was lost.
      recoveredPosition: recovered ?? Number.MAX_SAFE_INTEGER,
      member: member.name,
      trustDomain: member.trustDomain,
      realms,
      trusted: session.rights.trusted,
      uid: session.rights.uid,
      uidOwnerGid: session.rights.gid,
      promiseLeaseMs: PROMISE_LEASE_MS,
      sessionLeaseMs: SESSION_LEASE_MS,
      nodes: data.routes(session.listener),
      resumed,
      features: attach.features.filter((feature) => FEATURES.includes(feature)),
      version,
      access: operations.access(session),
      trust: this.#told(session),
    };
  }

  #told({ bundleHash, leaf }: Session): TrustBundle | undefined {
    return this.#parts.told({ bundleHash, rootFingerprint256: leaf?.rootFingerprint256 });
  }

  #renew(session: Session, renew: { acknowledged: number[]; bundleHash: string; number: number }): void {
    const { registry, engine, data, operations, clock, book } = this.#parts;
    session.acknowledge(renew.acknowledged);
    session.bundleHash = renew.bundleHash;
    registry.touch(session);
    if (session.acknowledgedWaiting > 0) this.#forgetAcknowledged(session);
    const accessLeftMs = session.accessExpiresSeconds * 1000 - wallMs(clock);
    this.#send({
      message: {
        $case: 'renewed',
        value: {
          number: renew.number,
          stablePosition: engine.stablePosition,
          access: accessLeftMs < ACCESS_TOKEN_LIFETIME_MS / 2 ? operations.access(session) : undefined,
          nodes: data.routes(session.listener),
          realms: undefined,
          trust: this.#told(session),
        },
      },
    });
    if (session.realmsTold !== book.version) void this.#tellRealms(session);
  }

  /** The realms that the session may use, or their settings, have changed: it is told with an answer of its own. */
  async #tellRealms(session: Session): Promise<void> {
    const { book, engine, data } = this.#parts;
    session.realmsTold = book.version;
    try {
      const realms = await engine.run((tx) => realmAccesses(tx, session));
      this.#send({
        message: {
          $case: 'renewed',
          value: {
            number: 0,
            stablePosition: engine.stablePosition,
            access: undefined,
            nodes: data.routes(session.listener),
            realms: { realms },
            trust: undefined,
          },
        },
      });
    } catch {
      // The next renewal tries again; a log that fails ends the process.
      session.realmsTold = 0;
    }
  }

  /** Rows of answers that the client has: they go with a batch of their own when no mutation takes them along. */
  #forgetAcknowledged(session: Session): void {
    const acknowledged = session.takeAcknowledged();
    for (let at = 0; at < acknowledged.length; at += ACKNOWLEDGED_WAITING_MAX) {
      const some = acknowledged.slice(at, at + ACKNOWLEDGED_WAITING_MAX);
      const removed = this.#parts.engine.run(
        (tx) => {
          for (const { number, step } of some) tx.remove(ANSWERS, session.id, number, step);
        },
        { durability: 'written' },
      );
      // A log that fails ends the process; rows that stay are removed with the session.
      removed.catch(() => undefined);
    }
  }

  #send(message: ServerMessage): void {
    if (this.#over) return;
    if (message.message?.$case === 'replies') {
      this.#gather(message.message.value);
      return;
    }
    this.#flush();
    this.#link.send(message);
  }

  /** Answers of one turn go together: a message costs more than an answer. */
  #gather(replies: Replies): void {
    if (this.#gathered === undefined) {
      this.#gathered = replies;
      this.#parts.clock.defer(() => this.#flush());
      return;
    }
    this.#gathered.replies.push(...replies.replies);
    this.#gathered.stablePosition = replies.stablePosition;
  }

  #flush(): void {
    const gathered = this.#gathered;
    if (gathered === undefined) return;
    this.#gathered = undefined;
    if (!this.#over) this.#link.send({ message: { $case: 'replies', value: gathered } });
  }
}
