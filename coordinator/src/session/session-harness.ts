/**
 * For tests: a coordinator's core in a world of its own (fake clock, fake disk, memory links) and clients that say exactly
 * what a test tells them to. Messages pass through their wire form, as over gRPC. Nothing here waits for real time.
 */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock, type ProcessClock } from '@collective/base/fake-clock';
import { ROOT_REALM } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import {
  type Attach,
  type Attached,
  type Attributes,
  ClientMessage,
  type Credential,
  Durability,
  InodeType,
  type MakeNode,
  type Operation,
  type RealmAccess,
  type Recall,
  RenameMode,
  type Reply,
  ServerMessage,
  type SetAttributes,
} from '@collective/protocol/gen/session';
import { type MemoryLinkPair, memoryLinkPair } from '@collective/protocol/link/memory-link';
import { CoordinatorCore, type CoreOptions } from '../core.ts';
import { FileLog } from '../log/file-log.ts';
import type { StoreState } from '../ops/replica-stability.ts';
import { MemoryStore, MemoryStoreDisk } from '../store/memory-store.ts';
import type { SubjectRow } from '../tables/gen/tables.ts';
import { REALMS, SUBJECTS } from '../tables/tables.ts';
import type { DataAccess } from './data-access.ts';
import {
  makeOp,
  type Op,
  type Result,
  type ResultOf,
  renameOp,
  resultOf,
  setOp,
  TEST_EPOCH,
  unlinkOp,
} from './scripted-operations.ts';

export interface WorldOptions {
  readonly seed?: number;
  readonly core?: Partial<CoreOptions>;
  /** How long a sync of the log takes: what is between "written" and "stable". */
  readonly syncMs?: number;
  readonly writeMs?: number;
  /** How long the store takes for each call. */
  readonly storeMs?: number;
  /** False: what is removed is destroyed at once. */
  readonly trash?: boolean;
}

/** Storage nodes as sessions see them: always there, with as much room as a test says. */
export class FakeNodes implements DataAccess {
  capacityBytes = 1e15;
  free = 1e15;
  names = ['n1', 'n2'];
  /** What they last reported of their stores. */
  readonly stores = new Map<string, StoreState>();
  /** Answers the question for stable chunks (D3); by itself no node does. */
  onMakeStable: DataAccess['makeStable'] = (node) =>
    Promise.reject(new CollectiveError('unavailable', `Ask node ${node}: it is not connected`));

  routes(): ReturnType<DataAccess['routes']> {
    return [];
  }
  place(wanted: number, sets: number): ReturnType<DataAccess['place']> {
    return this.names.length === 0 ? [] : Array.from({ length: sets }, () => ({ nodes: this.names.slice(0, wanted) }));
  }
  freeBytes(): ReturnType<DataAccess['freeBytes']> {
    return { capacityBytes: this.capacityBytes, freeBytes: this.free };
  }
  store(node: string): StoreState | undefined {
    return this.stores.get(node);
  }
  makeStable(...question: Parameters<DataAccess['makeStable']>): ReturnType<DataAccess['makeStable']> {
    return this.onMakeStable(...question);
  }
  issueAccess(): ReturnType<DataAccess['issueAccess']> {
    return { token: Buffer.from('token'), expires: { seconds: 4_000_000_000, nanos: 0 } };
  }
  readable(places: Parameters<DataAccess['readable']>[0]): ReturnType<DataAccess['readable']> {
    return places;
  }
  ticket(node: string): ReturnType<DataAccess['ticket']> {
    return { node, ticket: Buffer.alloc(16), expires: { seconds: 4_000_000_000, nanos: 0 } };
  }
}

/** One member's coordinator over all its lives. */
export class SessionWorld {
  readonly clock = new FakeClock();
  readonly nodes = new FakeNodes();
  readonly fatals: Error[] = [];
  readonly failures: string[] = [];
  readonly random: SeededRandom;
  readonly #options: WorldOptions;
  readonly #storeDisk = new MemoryStoreDisk();
  #disk: FakeDisk;
  #life: ProcessClock;
  #core: CoordinatorCore | undefined;

  private constructor(options: WorldOptions) {
    this.#options = options;
    this.random = new SeededRandom(options.seed ?? 1);
    this.#life = this.clock.process();
    this.#disk = new FakeDisk(this.#diskOptions());
  }

  static async start(options: WorldOptions = {}): Promise<SessionWorld> {
    const world = new SessionWorld(options);
    await world.#startCore();
    await world.subject('root');
    if (options.trash === false) await world.#switchTrashOff();
    return world;
  }

  get core(): CoordinatorCore {
    assert(this.#core !== undefined, 'the coordinator runs');
    return this.#core;
  }

  get disk(): FakeDisk {
    return this.#disk;
  }

  /** A user: trusted and with the root realm unless said otherwise. */
  async subject(name: string, row: Partial<SubjectRow> = {}): Promise<string> {
    const uri = subjectUri(name);
    const full: SubjectRow = {
      uri,
      admin: false,
      trusted: true,
      uid: 0,
      gid: 0,
      realms: [{ realm: ROOT_REALM, readOnly: false }],
      created: undefined,
      ...row,
    };
    await this.finish(this.core.engine.run((tx) => tx.put(SUBJECTS, full, uri)));
    return uri;
  }

  /** A client that has attached. */
  async client(options: ClientOptions = {}): Promise<ScriptedClient> {
    const client = new ScriptedClient(this, options);
    await client.attach();
    return client;
  }

  finish<T>(promise: Promise<T>, withinMs = 600_000): Promise<T> {
    return this.clock.finish(promise, { withinMs });
  }

  /** SIGKILL or power loss; then the same data is opened by a new process. */
  async restart(how: 'kill' | 'power-loss' | 'orderly' = 'kill'): Promise<void> {
    if (how === 'orderly') await this.finish(this.core.close());
    else {
      this.#life.end();
      if (how === 'kill') this.#disk.kill();
      else {
        this.#disk.powerLoss(this.random);
        this.#storeDisk.powerLoss(this.random);
      }
    }
    // Everything that the old process had under way comes to nothing.
    await this.clock.advance(1);
    this.#life = this.clock.process();
    this.#disk = this.#disk.again(this.#diskOptions());
    await this.#startCore();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#life.ended || this.fatals.length > 0) return;
    await this.finish(this.core.close());
  }

  serve(link: Parameters<CoordinatorCore['serveSession']>[0], subject: string): void {
    void this.core.serveSession(link, { uri: subject });
  }

  async #switchTrashOff(): Promise<void> {
    await this.finish(
      this.core.engine.run((tx) => {
        const row = tx.get(REALMS, ROOT_REALM);
        assert(row !== undefined, 'the root realm has a row');
        tx.put(REALMS, { ...row, trashSeconds: -1 }, ROOT_REALM);
      }),
    );
  }

  async #startCore(): Promise<void> {
    const clock = this.#life;
    const { storeMs = 0 } = this.#options;
    const start = async (): Promise<CoordinatorCore> =>
      CoordinatorCore.start({
        clock,
        log: await FileLog.open({ disk: this.#disk, clock, random: this.random, folder: 'log' }),
        store: new MemoryStore(this.#storeDisk, storeMs === 0 ? undefined : () => sleep(clock, storeMs)),
        data: () => this.nodes,
        member: { name: 'alice', trustDomain: 'alice.home' },
        version: 'test',
        rootOwner: { uid: 0, gid: 0 },
        onFatal: (error) => this.fatals.push(error),
        // Of chunk ids: `testChunk` names those of the first client.
        generation: TEST_EPOCH.generation,
        onOperationFailure: ({ error }) => this.failures.push(`${error.message}: ${String(error.cause)}`),
        ...this.#options.core,
      });
    this.#core = await this.finish(start());
  }

  #diskOptions(): ConstructorParameters<typeof FakeDisk>[0] {
    const { syncMs = 1, writeMs = 0.1 } = this.#options;
    return {
      clock: this.#life,
      random: this.random,
      latencyMs: ({ kind }) => (kind === 'sync' ? syncMs : kind === 'write' ? writeMs : 0),
    };
  }
}

export function subjectUri(name: string): string {
  return `spiffe://alice.home/user/${name}`;
}

export interface ClientOptions {
  readonly user?: string;
  readonly caches?: boolean;
  readonly clientId?: Buffer;
  readonly credential?: Credential;
  /** What a recall is answered with; undefined: not at all. */
  readonly onRecall?: (recall: Recall) => { open: boolean } | undefined;
}

/** A message in the order of its arrival. */
export type Arrival =
  | { readonly at: 'reply'; readonly reply: Reply }
  | { readonly at: 'recall'; readonly recall: Recall };

export class ScriptedClient {
  readonly world: SessionWorld;
  readonly clientId: Buffer;
  /** All replies and recalls, in order of arrival, over all streams. */
  readonly arrivals: Arrival[] = [];
  onRecall: ((recall: Recall) => { open: boolean } | undefined) | undefined;
  /** Answers how much is given back; undefined: nothing is answered. */
  onSpaceRecall: ((realm: number) => number | undefined) | undefined;
  attached: Attached | undefined;
  /** The realms that it may use, each time that it was told. */
  readonly realmsTold: RealmAccess[][] = [];
  /** Why the last stream ended, when the coordinator said so. */
  refused: string | undefined;
  ended = false;
  detached = false;
  #number = 0;
  #pair: MemoryLinkPair<ClientMessage, ServerMessage> | undefined;
  readonly #options: ClientOptions;
  readonly #waiting = new Map<string, ((reply: Reply) => void)[]>();

  constructor(world: SessionWorld, options: ClientOptions) {
    this.world = world;
    this.#options = options;
    this.clientId = options.clientId ?? world.random.bytes(16);
    this.onRecall = options.onRecall ?? (() => ({ open: false }));
  }

  get session(): number {
    return this.attached?.session ?? 0;
  }

  get recalls(): Recall[] {
    return this.arrivals.flatMap((arrival) => (arrival.at === 'recall' ? [arrival.recall] : []));
  }

  get link(): MemoryLinkPair<ClientMessage, ServerMessage> {
    assert(this.#pair !== undefined, 'the client has a link');
    return this.#pair;
  }

  /** Opens a stream and attaches: a new session at first, later the same one. Throws what refused it. */
  async attach(attach: Partial<Attach> = {}): Promise<Attached> {
    await this.world.finish(this.beginAttach(attach));
    assert(this.attached !== undefined);
    return this.attached;
  }

  beginAttach(attach: Partial<Attach> = {}): Promise<void> {
    const before = this.attached;
    this.open();
    const answered = new Promise<void>((resolve, reject) => {
      this.#attachWaits = { resolve, reject };
    });
    this.say({
      $case: 'attach',
      value: {
        wireVersion: 1,
        features: [],
        clientId: this.clientId,
        session: before?.session ?? 0,
        listener: 'internal',
        bundleHash: '',
        caches: this.#options.caches ?? false,
        program: 'test',
        held: [],
        openInodes: [],
        credential: this.#options.credential,
        lastEpoch: before?.epoch,
        space: [],
        ...attach,
      },
    });
    return answered;
  }

  /** A new stream on which nothing was said yet. */
  open(): void {
    const { world } = this;
    const pair = memoryLinkPair<ClientMessage, ServerMessage>({
      clock: world.clock,
      copy: (from, message) =>
        from === 'left'
          ? ClientMessage.decode(ClientMessage.encode(message as ClientMessage).finish())
          : ServerMessage.decode(ServerMessage.encode(message as ServerMessage).finish()),
    });
    this.#pair = pair;
    this.refused = undefined;
    this.ended = false;
    world.serve(pair.right, subjectUri(this.#options.user ?? 'root'));
    void this.#receiveAll(pair);
  }

  say(message: NonNullable<ClientMessage['message']>): void {
    this.link.left.send({ message });
  }

  /** Both ends notice that the stream broke. */
  breakLink(): void {
    this.link.cut();
  }

  /** Sends one operation; resolves with its reply, whenever it comes. */
  send(op: Op, more: Partial<Operation> = {}): Promise<Reply> {
    return this.sendAll([{ op, ...more }])[0] as Promise<Reply>;
  }

  /** Sends operations in one message. */
  sendAll(operations: readonly (Partial<Operation> & { op: Op })[], acknowledged: number[] = []): Promise<Reply>[] {
    const full = operations.map(
      (operation): Operation => ({
        number: operation.number ?? ++this.#number,
        step: 0,
        durability: Durability.WRITTEN,
        credential: undefined,
        replay: undefined,
        ...operation,
      }),
    );
    const replies = full.map(
      ({ number, step }) =>
        new Promise<Reply>((resolve) => {
          const key = `${number}:${step}`;
          this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), resolve]);
        }),
    );
    this.say({ $case: 'operations', value: { operations: full, acknowledged } });
    return replies;
  }

  reply(op: Op, more: Partial<Operation> = {}): Promise<Reply> {
    return this.world.finish(this.send(op, more));
  }

  /** The result, or a CollectiveError with the code of its failure. */
  async call<Name extends Result['$case']>(
    op: Op,
    expected: Name,
    more: Partial<Operation> = {},
  ): Promise<ResultOf<Name>> {
    return resultOf(await this.reply(op, more), expected);
  }

  get lastNumber(): number {
    return this.#number;
  }

  /** The next number to be used, for tests that send it again. */
  draw(): number {
    return ++this.#number;
  }

  replayed(): void {
    this.say({ $case: 'replayed', value: {} });
  }

  async renew(acknowledged: number[] = []): Promise<void> {
    this.say({ $case: 'renew', value: { acknowledged, bundleHash: '', number: 1 } });
    await this.world.clock.settle();
  }

  async detach(): Promise<void> {
    this.say({ $case: 'detach', value: {} });
    await this.world.clock.until(() => this.detached, { withinMs: 10_000 });
  }

  acknowledgeRecall(recall: Recall, open = false): void {
    this.say({ $case: 'recallDone', value: { sequence: recall.sequence, open, blockedBy: [] } });
  }

  // ---- shorthands for the namespace ----

  make(
    parent: number,
    name: string | Buffer,
    more: Partial<MakeNode> = {},
    operation: Partial<Operation> = {},
  ): Promise<Attributes> {
    return this.call(makeOp(parent, name, more), 'attributes', operation);
  }

  mkdir(parent: number, name: string, mode = 0o755, operation: Partial<Operation> = {}): Promise<Attributes> {
    return this.make(parent, name, { type: InodeType.DIRECTORY, mode }, operation);
  }

  lookup(parent: number, name: string | Buffer, operation: Partial<Operation> = {}): Promise<Attributes> {
    return this.call({ $case: 'lookup', value: { parent, name: Buffer.from(name) } }, 'attributes', operation);
  }

  stat(inode: number, operation: Partial<Operation> = {}): Promise<Attributes> {
    return this.call({ $case: 'getAttributes', value: { inode, opens: false } }, 'attributes', operation);
  }

  set(inode: number, change: Partial<SetAttributes>, operation: Partial<Operation> = {}): Promise<Attributes> {
    return this.call(setOp(inode, change), 'attributes', operation);
  }

  unlink(
    parent: number,
    name: string,
    more: { held?: boolean; directory?: boolean; expectedInode?: number; permanent?: boolean } = {},
    operation: Partial<Operation> = {},
  ): Promise<ResultOf<'unlinked'>> {
    return this.call(unlinkOp(parent, name, more), 'unlinked', operation);
  }

  rename(
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    mode: RenameMode = RenameMode.RENAME_REPLACE,
    operation: Partial<Operation> = {},
  ): Promise<ResultOf<'empty'>> {
    return this.call(renameOp(parent, name, newParent, newName, mode), 'empty', operation);
  }

  async names(inode: number): Promise<string[]> {
    const { entries } = await this.call(
      { $case: 'readDirectory', value: { inode, after: 0, limit: 2_000, withAttributes: false } },
      'directory',
    );
    return entries.map(({ name }) => name.toString());
  }

  #attachWaits: { resolve: () => void; reject: (error: Error) => void } | undefined;

  async #receiveAll(pair: MemoryLinkPair<ClientMessage, ServerMessage>): Promise<void> {
    try {
      for (;;) {
        const received = await pair.left.receive();
        if (received?.message === undefined) break;
        if (this.#pair === pair) this.#apply(received.message);
      }
    } catch (error) {
      assert(error instanceof CollectiveError);
    }
    if (this.#pair !== pair) return;
    this.ended = true;
    this.#attachWaits?.reject(new CollectiveError('unavailable', 'Attach: the link ended'));
  }

  #apply(message: NonNullable<ServerMessage['message']>): void {
    switch (message.$case) {
      case 'attached':
        this.attached = message.value;
        this.#attachWaits?.resolve();
        this.#attachWaits = undefined;
        break;
      case 'spaceRecall': {
        const { realm } = message.value;
        const bytes = this.onSpaceRecall?.(realm);
        if (bytes !== undefined) this.say({ $case: 'giveBack', value: { realm, bytes } });
        break;
      }
      case 'replies':
        assert(this.#attachWaits === undefined, 'attached comes first');
        for (const reply of message.value.replies) {
          this.arrivals.push({ at: 'reply', reply });
          const key = `${reply.number}:${reply.step}`;
          for (const resolve of this.#waiting.get(key) ?? []) resolve(reply);
          this.#waiting.delete(key);
        }
        break;
      case 'recall': {
        assert(this.#attachWaits === undefined, 'attached comes first');
        this.arrivals.push({ at: 'recall', recall: message.value });
        const answer = this.onRecall?.(message.value);
        if (answer !== undefined) this.acknowledgeRecall(message.value, answer.open);
        break;
      }
      case 'refused':
        this.refused = message.value.failure?.code;
        this.#attachWaits?.reject(
          new CollectiveError(
            (message.value.failure?.code ?? 'internal') as 'internal',
            message.value.failure?.message ?? '',
          ),
        );
        this.#attachWaits = undefined;
        break;
      case 'detached':
        this.detached = true;
        break;
      case 'renewed':
        if (message.value.realms !== undefined) this.realmsTold.push(message.value.realms.realms);
        break;
    }
  }
}
