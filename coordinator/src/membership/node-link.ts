/**
 * The coordinator's end of a node's link (D7, D10): takes the registration and heartbeats, answers each with keys, epoch
 * and the routes of the other nodes, and asks questions (D3): what it has, and to make that stable. A new link of the same node takes over from an older one.
 */
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, compareEpochs, type Epoch, type NodeName } from '@collective/base/ids';
import { HEARTBEAT_INTERVAL_MS, WIRE_VERSION } from '@collective/base/limits';
import type { TrustBundle } from '@collective/protocol/gen/common';
import type {
  ChunksHeld,
  ChunksStable,
  CoordinatorMessage,
  NodeMessage,
  NodeReport,
  SigningKey,
  Welcome,
} from '@collective/protocol/gen/node';
import type { Link } from '@collective/protocol/link/link';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { ReportedTrust } from '@collective/protocol/tls/trust-bundle';
import type { StableAnswer } from '../session/stability-proof.ts';
import type { NodeTable } from './node-table.ts';
import { type AnswerBody, type OrderBody, OrderDesk } from './order-desk.ts';

export interface NodeLinkParts {
  readonly clock: Clock;
  readonly epoch: Epoch;
  readonly member: string;
  readonly nodes: NodeTable;
  readonly keys: {
    signingKeys(): SigningKey[];
    /** Of this node: the key in use and the one before. */
    ticketKeys(node: NodeName): { current: Buffer; previous: Buffer };
  };
  /** A node registered or reported: its store's state, for D3. */
  onReport(node: NodeName, report: NodeReport): void;
  /** M2a: a node has seen a newer coordinator than this one, which must not go on. */
  onNewerEpoch(node: NodeName, epoch: Epoch): void;
  log(fields: { node: NodeName; error?: unknown }, message: string): void;
  /** Every chunk is read once within it; 0: no scrub. */
  scrubPeriodSeconds(): number;
  /** T6: what a node that reports this is to be told of the member's roots. */
  told(peer: ReportedTrust): TrustBundle | undefined;
}

/** What was shown on a connection (T6). */
export type ShownLeaf = Pick<PeerIdentity, 'rootFingerprint256' | 'notAfterMs'>;

const QUESTION_WITHIN_MS = 10_000;
/** Questions that one node has not answered yet; operations that would ask more wait for its next report. */
const QUESTIONS_MAX = 1_024;
/** A link that is silent for so long is closed; the node opens another. */
const SILENT_MS = 15_000;
/** A node whose clock differs more would hand out or refuse tokens wrongly. */
const CLOCK_DIFFERENCE_MAX_MS = 60_000;

export class NodeLinks {
  readonly #parts: NodeLinkParts;
  readonly #links = new Map<NodeName, NodeLink>();

  constructor(parts: NodeLinkParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#links.size;
  }

  isConnected(node: NodeName): boolean {
    return this.#links.has(node);
  }

  /** The member's roots, or the one that signs, have changed (T6). */
  trustChanged(): void {
    for (const link of this.#links.values()) link.update();
  }

  /** The certificate that the node's link was opened with. */
  leafOf(node: NodeName): ShownLeaf | undefined {
    return this.#links.get(node)?.leaf;
  }

  /** Serves a node's link until it ends; never throws. `node`: from the URI of the peer's verified certificate. */
  async serve(
    link: Link<CoordinatorMessage, NodeMessage>,
    node: NodeName,
    signal: AbortSignal,
    leaf?: ShownLeaf,
  ): Promise<void> {
    const served = new NodeLink(link, node, this.#parts, leaf);
    try {
      await served.serve(signal, {
        registered: () => {
          this.#links.get(node)?.replaced();
          this.#links.set(node, served);
        },
        // Others must not wait for their next heartbeat to forward chunks to it.
        welcomed: () => {
          for (const other of this.#links.values()) if (other !== served) other.update();
        },
      });
    } catch (thrown) {
      served.refuse(toCollectiveError(thrown, `Serve the link of node ${node}`));
    } finally {
      served.ended();
      if (this.#links.get(node) === served) {
        this.#links.delete(node);
        this.#parts.nodes.linkEnded(node);
      }
    }
  }

  /** D3: which of these chunks the node has. Throws `unavailable` when it has no link or does not answer in time. */
  async askChunks(node: NodeName, chunks: readonly ChunkId[]): Promise<ReadonlySet<ChunkId>> {
    const answer = await this.#linkOf(node).ask('askChunks', chunks);
    return chunkSet(answer.value.held);
  }

  /** D3: the node syncs, then says which of these chunks it has. Throws as `askChunks` does, and `overloaded`. */
  async makeStable(node: NodeName, chunks: readonly ChunkId[]): Promise<StableAnswer> {
    const answer = await this.#linkOf(node).ask('makeStable', chunks);
    if (answer.$case !== 'chunksStable')
      throw new CollectiveError('internal', `Ask node ${node} to sync: it answered another question`);
    const { disk, incarnation, stableSequence, held } = answer.value;
    return { store: { disk, incarnation, stableSequence }, held: chunkSet(held) };
  }

  #linkOf(node: NodeName): NodeLink {
    const link = this.#links.get(node);
    if (link === undefined)
      throw new CollectiveError('unavailable', `Ask node ${node} for its chunks: it is not connected`);
    return link;
  }

  /** Maintenance (D8). Throws what the node answered; `unavailable` when it has no link or does not answer in time. */
  order(node: NodeName, what: string, order: OrderBody, options: OrderOptions): Promise<AnswerBody> {
    const link = this.#links.get(node);
    if (link === undefined)
      return Promise.reject(new CollectiveError('unavailable', `${what} on node ${node}: it is not connected`));
    return link.orders.give(`${what} on node ${node}`, order, options);
  }
}

interface OrderOptions {
  readonly withinMs: number;
  readonly signal: AbortSignal;
}

function chunkSet(held: readonly Uint8Array[]): ReadonlySet<ChunkId> {
  return new Set(held.map((chunk) => chunkIdFromBytes(chunk)));
}

type Answer =
  | { readonly $case: 'chunksHeld'; readonly value: ChunksHeld }
  | { readonly $case: 'chunksStable'; readonly value: ChunksStable };

interface Question {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
}

class NodeLink {
  readonly orders: OrderDesk;
  readonly leaf: ShownLeaf | undefined;
  readonly #link: Link<CoordinatorMessage, NodeMessage>;
  readonly #node: NodeName;
  readonly #parts: NodeLinkParts;
  readonly #questions = new Map<number, Question>();
  #nextQuestion = 1;
  #bundleHash = '';
  #silence: Timer | undefined;

  constructor(
    link: Link<CoordinatorMessage, NodeMessage>,
    node: NodeName,
    parts: NodeLinkParts,
    leaf: ShownLeaf | undefined,
  ) {
    this.leaf = leaf;
    this.#link = link;
    this.#node = node;
    this.#parts = parts;
    this.orders = new OrderDesk(parts.clock, (message) => link.send(message));
  }

  async serve(signal: AbortSignal, steps: { registered(): void; welcomed(): void }): Promise<void> {
    this.#listen();
    const first = (await this.#link.receive(signal))?.message;
    if (first?.$case !== 'register')
      throw new CollectiveError(
        'invalid_argument',
        `Open the link of node ${this.#node}: its first message must be register`,
      );
    this.#checkReport(first.value);
    steps.registered();
    await this.#report(first.value, 'welcome');
    steps.welcomed();
    this.#parts.log({ node: this.#node }, 'node registered');
    for (;;) {
      const received = await this.#link.receive(signal);
      if (received === undefined) return;
      this.#listen();
      const { message } = received;
      if (message?.$case === 'heartbeat') await this.#report(message.value, 'update');
      else if (message?.$case === 'chunksHeld' || message?.$case === 'chunksStable') this.#answered(message);
      else if (message?.$case === 'answer') this.orders.answered(message.value);
      else if (message?.$case === 'register')
        throw new CollectiveError('invalid_argument', `Serve node ${this.#node}: it registered twice on one link`);
    }
  }

  ask($case: 'askChunks' | 'makeStable', chunks: readonly ChunkId[]): Promise<Answer> {
    if (this.#questions.size >= QUESTIONS_MAX)
      return Promise.reject(
        new CollectiveError('overloaded', `Ask node ${this.#node}: ${QUESTIONS_MAX} questions are not answered yet`),
      );
    const question = this.#nextQuestion++;
    return new Promise((resolve, reject) => {
      const timer = this.#parts.clock.setTimer(QUESTION_WITHIN_MS, () => {
        this.#questions.delete(question);
        reject(
          new CollectiveError(
            'unavailable',
            `Ask node ${this.#node} for its chunks: no answer within ${QUESTION_WITHIN_MS} ms`,
          ),
        );
      });
      this.#questions.set(question, { resolve, reject, timer });
      this.#link.send({
        message: { $case, value: { question, chunks: chunks.map((chunk) => Buffer.from(chunk, 'hex')) } },
      });
    });
  }

  refuse(error: CollectiveError): void {
    this.#parts.log({ node: this.#node, error }, 'node link ended with an error');
    this.#link.send({
      message: { $case: 'refused', value: { failure: { code: error.code, message: error.message, details: {} } } },
    });
  }

  /** Says again what every answer says: keys and routes. */
  update(): void {
    this.#link.send({ message: { $case: 'update', value: this.#welcome() } });
  }

  replaced(): void {
    this.refuse(
      new CollectiveError('fenced', `Serve the link of node ${this.#node}: a newer link of it has taken over`),
    );
    this.#link.close();
  }

  ended(): void {
    this.#silence?.cancel();
    for (const { reject, timer } of this.#questions.values()) {
      timer.cancel();
      reject(new CollectiveError('unavailable', `Ask node ${this.#node} for its chunks: its link ended`));
    }
    this.#questions.clear();
    this.orders.linkEnded();
    this.#link.close();
  }

  async #report(report: NodeReport, answer: 'welcome' | 'update'): Promise<void> {
    this.#checkReport(report);
    this.#bundleHash = report.bundleHash;
    await this.#parts.nodes.reported(this.#node, report);
    if (answer === 'update') this.update();
    else this.#link.send({ message: { $case: 'welcome', value: this.#welcome() } });
    this.#parts.onReport(this.#node, report);
  }

  /** Whoever wonders why a node does not come finds the reason with the coordinator. */
  #checkReport(report: NodeReport): void {
    try {
      this.#judgeReport(report);
    } catch (thrown) {
      if (thrown instanceof CollectiveError) this.#parts.nodes.refused(this.#node, thrown);
      throw thrown;
    }
  }

  #judgeReport(report: NodeReport): void {
    const { epoch, clock } = this.#parts;
    if (report.wireVersion !== WIRE_VERSION)
      throw new CollectiveError(
        'version_too_new',
        `Take node ${this.#node}: it speaks wire version ${report.wireVersion}, this coordinator ${WIRE_VERSION}`,
      );
    if (report.disk === '') throw new CollectiveError('invalid_argument', `Take node ${this.#node}: it names no disk`);
    if (report.highestEpoch !== undefined && compareEpochs(report.highestEpoch, epoch) > 0) {
      this.#parts.onNewerEpoch(this.#node, report.highestEpoch);
      throw new CollectiveError(
        'fenced',
        `Take node ${this.#node}: it has served epoch ${report.highestEpoch.generation}.${report.highestEpoch.start}, this coordinator has ${epoch.generation}.${epoch.start}`,
      );
    }
    const differenceMs = report.time === undefined ? 0 : Math.abs(report.time.seconds * 1000 - wallMs(clock));
    if (differenceMs > CLOCK_DIFFERENCE_MAX_MS)
      throw new CollectiveError(
        'clock_wrong',
        `Take node ${this.#node}: its clock differs by ${Math.round(differenceMs / 1000)} s`,
      );
  }

  #welcome(): Welcome {
    const { epoch, keys, nodes, member, clock } = this.#parts;
    const { current, previous } = keys.ticketKeys(this.#node);
    return {
      epoch,
      heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
      signingKeys: keys.signingKeys(),
      ticketKey: current,
      previousTicketKey: previous,
      nodes: nodes.routes('internal'),
      member,
      time: clock.now(),
      scrubPeriodSeconds: this.#parts.scrubPeriodSeconds(),
      trust: this.#parts.told({
        bundleHash: this.#bundleHash,
        rootFingerprint256: this.leaf?.rootFingerprint256,
      }),
    };
  }

  #answered(answer: Answer): void {
    const question = this.#questions.get(answer.value.question);
    if (question === undefined) return;
    this.#questions.delete(answer.value.question);
    question.timer.cancel();
    question.resolve(answer);
  }

  #listen(): void {
    this.#silence?.cancel();
    this.#silence = this.#parts.clock.setTimer(SILENT_MS, () => this.#link.close(), { background: true });
  }
}
