/**
 * One run: a member of one coordinator, some nodes and some clients on virtual time, with faults. Rounds of actions end in rest:
 * everything is healed, all clients come to an end of what they do, and a fresh client reads the whole tree, which must be one
 * that the history explains. All choices come from the seed.
 */
import { sleep } from '@collective/base/clock';
import { FakeClock, type ProcessClock } from '@collective/base/fake-clock';
import type { NodeName } from '@collective/base/ids';
import { PROMISE_LEASE_MS } from '@collective/base/limits';
import { pickOne, type Random, randomBelow } from '@collective/base/random';
import { DUTIES } from '@collective/coordinator/placement/node-picture';
import type { Action, Durability } from './actions.ts';
import { type BreakName, Breaks, SHOWN_BY } from './breaks.ts';
import { CoordinatorProgram } from './coordinator-program.ts';
import { DiskLosses } from './disk-losses.ts';
import { type Fault, FaultPlan } from './faults.ts';
import { OrderJudge } from './judged-orders.ts';
import { RealmJudge } from './judged-realms.ts';
import { keptStore, ROWS_MAX, readRows, unreadable, whatIsLeft, wrongReplicas } from './leaks.ts';
import { LeavingNode } from './leaving-node.ts';
import { Machine, setWallRight } from './machine.ts';
import { allSynced, emptyFileSystem, make, newNode, nodesLostPower } from './model-files.ts';
import { History, Undecided } from './model-history.ts';
import { type Endpoint, Network } from './network.ts';
import { COORDINATOR, connectClient, isChunkSegment, NodeProgram, uriOf } from './programs.ts';
import { type RandomStreams, randomStreams } from './random-streams.ts';
import { drawRealmPlan, type RealmPlan } from './realm-plan.ts';
import { holdSignalsByTheirSources } from './run-signals.ts';
import { asError, foldersOf, isUnknownOutcome, SimClient } from './sim-client.ts';
import { Trace } from './trace.ts';
import { drawUpkeep, type Upkeep } from './upkeep.ts';
import { acceptWholeState, readWholeState } from './whole-state.ts';

export interface SimulationOptions {
  readonly seed: number;
  /** Actions of all clients together. */
  readonly steps: number;
  readonly break?: BreakName;
  /** Disks of nodes die for good and rot, and nodes stay away. */
  readonly disksDie?: boolean;
  readonly onLine?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly steps: number;
  readonly virtualMs: number;
  readonly faults: number;
  /** How often a disk died or a bit turned. */
  readonly hurts: number;
  readonly hash: string;
  readonly failure: Error | undefined;
  /** The run was ended because it could not be judged any more. */
  readonly undecided: boolean;
  /** The last lines of the trace. */
  readonly trace: readonly string[];
}

const ROUND_STEPS_MAX = 60;
/** Calls without an answer multiply the explanations: a round ends when there are so many. */
const OPEN_CALLS_MAX = 2;
const EXPLANATIONS_OF_A_ROUND_MAX = 50;
/** The longest that anything may wait: a session lease, a reconnect and some retries. */
const REST_WITHIN_MS = 240_000;
const START_WITHIN_MS = 60_000;
/**
 * All jobs together, when nothing goes wrong any more: sessions of the dead end, graces are over, nodes are emptied. A copy that came
 * once more after it was forgotten is seen when what is known of its leaving ends, after ten minutes.
 */
const JOBS_WITHIN_MS = 900_000;
const JOBS_LOOK_MS = 5_000;
const NODES_COME_WITHIN_MS = 3_000;
const SETTLE_MS = 3_000;
/** The coordinator looks several times a second, and its disk may be a hundred times slower than usual. */
const ROOM_SEEN_WITHIN_MS = 3_000;
/** Clocks of machines are not exact. */
const GATE_TOLERANCE_MS = 10;
/** In one of so many seeds all clients save files again and again, and nothing goes wrong but the nodes' power, at the worst moment (D3). */
const SAVING_SEEDS = 12;
/** Promises of a session, in some seeds: fewer than there are files, so that some are called back all the time (M7). */
const SMALL_SHARE = 10;

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  using _ = holdSignalsByTheirSources();
  const simulation = new Simulation(options);
  const onRejection = (reason: unknown): void =>
    simulation.breach(new Error(`Nobody handles a rejection: ${String(reason)}`, { cause: reason }));
  process.on('unhandledRejection', onRejection);
  try {
    await simulation.run();
  } finally {
    process.off('unhandledRejection', onRejection);
  }
  return simulation.result();
}

interface LivingClient {
  readonly life: Endpoint & { readonly clock: ProcessClock };
  readonly client: SimClient;
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #streams: RandomStreams;
  /** What the member consists of, and how the rounds go. */
  readonly #random: Random;
  readonly #clock = new FakeClock();
  readonly #trace: Trace;
  readonly #network: Network;
  readonly #breaks: Breaks;
  readonly #history: History;
  readonly #coordinator: Machine;
  readonly #nodes: Machine[];
  readonly #nodePrograms: ReadonlyMap<NodeName, NodeProgram>;
  readonly #coordinatorProgram: CoordinatorProgram;
  readonly #upkeep: Upkeep;
  readonly #judge: OrderJudge;
  readonly #leaving: LeavingNode | undefined;
  readonly #realms: RealmPlan;
  readonly #realmJudge: RealmJudge;
  readonly #clientNames: string[];
  readonly #clients = new Map<string, LivingClient>();
  readonly #faults: FaultPlan;
  readonly #losses: DiskLosses;
  #failure: Error | undefined;
  #undecided = false;
  #faultCount = 0;
  #stepsLeft: number;
  #roundLeft = 0;
  #operationNumber = 0;
  #lifeNumber = 0;
  #observers = 0;
  /** Happens in the moment when a client has been answered a change. */
  #afterAnswer: ((client: string) => void) | undefined;
  /** The same for a rename: what had just been put has taken another's place, and no node has synced by itself yet. */
  #afterRename: (() => void) | undefined;
  readonly #saving: boolean;
  /** After a power loss of the coordinator what its disk shows says nothing about what clients have yet to send again. */
  #diskTellsStable = true;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#stepsLeft = options.steps;
    const streams = randomStreams(options.seed);
    this.#streams = streams;
    const random = streams('member');
    this.#random = random;
    const disksDie = options.disksDie === true;
    this.#saving = !disksDie && options.seed % SAVING_SEEDS === 0;
    const replicas = disksDie ? 2 + randomBelow(streams('replicas'), 2) : undefined;
    this.#losses = new DiskLosses(replicas ?? 1);
    this.#trace = new Trace(() => this.#clock.elapsedMs);
    this.#trace.onLine = options.onLine;
    this.#network = new Network({ clock: this.#clock, random: streams('network'), trace: this.#trace });
    this.#breaks = new Breaks(options.break);
    this.#upkeep = drawUpkeep(streams('upkeep'), {
      leaving: streams('leaving'),
      steps: options.steps,
      mustLeave: this.#breaks.isShownByLeaving,
    });
    // One more than there are replicas at least, where one is emptied, and one more to repair to.
    const nodeCount =
      2 +
      randomBelow(random, 2) +
      (this.#upkeep.leaves === undefined ? 0 : 1) +
      (replicas === undefined ? 0 : replicas - 1);
    const nodeNames = Array.from({ length: nodeCount }, (_, i) => `n${i + 1}` as NodeName);
    this.#clientNames = Array.from({ length: 2 + randomBelow(random, 3) }, (_, i) => `c${i + 1}`);
    let start = emptyFileSystem();
    const folders = foldersOf(this.#clientNames);
    for (const folder of folders) start = make(start, folder, newNode(folder, 'directory', 0o755)).fs;
    this.#history = new History(start);
    const machine = (name: string, role: 'coordinator' | 'node', program: CoordinatorProgram | NodeProgram): Machine =>
      new Machine({
        name,
        uri: uriOf(role, name),
        world: this.#clock,
        network: this.#network,
        random: streams(`machine ${name}`),
        trace: this.#trace,
        program,
        onForgotten: role === 'coordinator' ? () => this.#coordinatorForgets() : undefined,
        onStart: role === 'coordinator' ? (life) => this.#coordinatorStarted(life) : undefined,
        onBreach: (error) => this.breach(error),
      });
    const tell = (what: string): void => this.#trace.add(COORDINATOR, what);
    const { settings, orphanGraceSeconds } = this.#upkeep;
    this.#judge = new OrderJudge({
      nowMs: () => this.#clock.elapsedMs,
      garbageGraceMs: settings.garbageGraceSeconds * 1_000,
      orphanGraceMs: orphanGraceSeconds * 1_000,
      isWallSteady: () => !this.#faults.kinds.includes('wall clock jumps'),
      onBreach: (error) => this.breach(error),
    });
    this.#realms = drawRealmPlan(streams, folders);
    this.#realmJudge = new RealmJudge({
      nowMs: () => this.#clock.elapsedMs,
      quota: this.#realms.quota,
      onBreach: (error) => this.breach(error),
    });
    this.#leaving = this.#leavingNode(nodeNames);
    this.#coordinatorProgram = new CoordinatorProgram({
      network: this.#network,
      breaks: this.#breaks,
      onEvent: tell,
      promisedInodesMax: randomBelow(streams('share'), 4) === 0 ? SMALL_SHARE : undefined,
      upkeep: this.#upkeep,
      replicas,
      leaving: this.#leaving,
      judge: this.#judge,
      realms: this.#realms,
      realmJudge: this.#realmJudge,
      mayMakeRealms: () => this.#roundLeft > 0,
      onBreach: (error) => this.breach(asError(error, 'whoever makes realms')),
    });
    this.#coordinator = machine(COORDINATOR, 'coordinator', this.#coordinatorProgram);
    this.#nodePrograms = new Map(nodeNames.map((name) => [name, new NodeProgram(this.#network, this.#breaks)]));
    this.#nodes = [...this.#nodePrograms].map(([name, program]) => machine(name, 'node', program));
    for (const each of this.#machines) {
      each.platter.ignoreSyncs = this.#breaks.ignoresSyncs;
      each.usualSlowness = pickOne(random, [1, 1, 1, 5, 30]);
    }
    this.#faults = new FaultPlan(streams, {
      coordinator: COORDINATOR,
      nodes: nodeNames,
      clients: () => [...this.#clients.values()].map(({ life }) => life.name),
      saving: this.#saving,
      mayHurt: disksDie ? (node) => this.#losses.mayHurt(node) : undefined,
      kinds: options.break === undefined ? undefined : SHOWN_BY[options.break],
    });
  }

  get #machines(): Machine[] {
    return [this.#coordinator, ...this.#nodes];
  }

  get #isOver(): boolean {
    return this.#failure !== undefined || this.#undecided;
  }

  breach(error: Error): void {
    if (this.#failure !== undefined || this.#undecided) return;
    if (error instanceof Undecided) this.#undecided = true;
    else this.#failure = error;
    this.#trace.add(this.#undecided ? 'undecided' : 'breach', error.message);
  }

  result(): SimulationResult {
    const { seed, steps } = this.#options;
    return {
      seed,
      steps: steps - this.#stepsLeft,
      virtualMs: Math.round(this.#clock.elapsedMs),
      faults: this.#faultCount,
      hurts: this.#losses.times,
      hash: this.#trace.hash,
      failure: this.#failure,
      undecided: this.#undecided,
      trace: this.#trace.last(400),
    };
  }

  async run(): Promise<void> {
    this.#trace.add('run', `seed ${this.#options.seed}, faults: ${this.#faults.kinds.join(', ') || 'none'}`);
    try {
      for (const machine of this.#machines) machine.start();
      await this.#until('the member serves', () => this.#machines.every((machine) => machine.serves), START_WITHIN_MS);
      await this.#asObserver((member) => this.#prepare(member));
      // The nodes come one retry later than the coordinator; a few seeds begin without them.
      if (randomBelow(this.#random, 20) > 0) await this.#clock.advance(NODES_COME_WITHIN_MS);
      for (const name of this.#clientNames) this.#startClient(name);
      while (this.#stepsLeft > 0 && !this.#isOver) {
        await this.#round();
        if (!this.#isOver) await this.#rest();
        if (!this.#isOver) await this.#untilMended();
      }
      if (!this.#isOver) await this.#jobsEnd();
    } catch (error) {
      this.breach(asError(error, 'the simulation'));
    }
    for (const machine of this.#machines) machine.life?.clock.end();
    for (const { life } of this.#clients.values()) life.clock.end();
  }

  async #prepare(member: Awaited<ReturnType<typeof connectClient>>): Promise<void> {
    for (const folder of foldersOf(this.#clientNames)) await member.files.mkdir(folder, { mode: 0o755 });
  }

  async #round(): Promise<void> {
    this.#roundLeft = Math.min(this.#stepsLeft, 10 + randomBelow(this.#random, ROUND_STEPS_MAX));
    let faultAtMs = this.#clock.elapsedMs + this.#faults.pauseMs();
    const busy = (): number => [...this.#clients.values()].filter(({ client }) => client.isCalling).length;
    // What an open file without a name holds nobody has looked at in the rest: it may begin with many.
    const explanationsMax = Math.max(EXPLANATIONS_OF_A_ROUND_MAX, 2 * this.#history.explanations);
    const over = (): boolean =>
      this.#roundLeft === 0 ||
      this.#history.open - busy() > OPEN_CALLS_MAX ||
      this.#history.explanations > explanationsMax;
    const untilMs = this.#clock.elapsedMs + 120_000;
    while (!over() && !this.#isOver && this.#clock.elapsedMs < untilMs) {
      if (this.#clock.elapsedMs >= faultAtMs) {
        const fault = this.#faults.next();
        if (fault !== undefined) this.#do(fault);
        faultAtMs = this.#clock.elapsedMs + this.#faults.pauseMs();
      }
      if (!(await this.#clock.step())) throw new Error('Nothing is left to happen');
    }
    this.#roundLeft = 0;
  }

  /** Everything is made whole; then all must come to an end, and the whole tree must be one that can be explained. */
  async #rest(): Promise<void> {
    this.#trace.add('run', `rests, ${this.#history.explanations} explanations, ${this.#history.open} open calls`);
    await this.#heal();
    const clients = (): LivingClient[] => [...this.#clients.values()];
    await this.#until(
      () =>
        `all clients rest: ${clients()
          .map(({ life, client }) => `${life.name} ${client.busyWith ?? 'rests'}`)
          .join('; ')}`,
      () => clients().every(({ client }) => client.busyWith === undefined && client.attached),
      REST_WITHIN_MS,
    );
    // A change that a dead client had asked for may wait for what another dead one was promised (M7).
    await this.#clock.advance(this.#history.open > 0 ? PROMISE_LEASE_MS + SETTLE_MS : SETTLE_MS);
    await this.#lookAtAll();
  }

  async #heal(): Promise<void> {
    this.#afterAnswer = undefined;
    this.#afterRename = undefined;
    for (const machine of this.#machines) machine.heal();
    for (const { life } of this.#clients.values()) setWallRight(life.clock, this.#clock);
    this.#network.noticeTheDead();
    await this.#until('all machines serve', () => this.#machines.every((machine) => machine.serves), REST_WITHIN_MS);
  }

  /** A fresh client reads the whole tree. */
  async #lookAtAll(): Promise<void> {
    const found = await this.#asObserver(async (member) => {
      // After this everything that the coordinator had received from the dead has been done too (M6: they wait at its gate).
      await member.files.setAttributes('/', { mode: 0o755 });
      await this.#sleep(1_000);
      return readWholeState(member.files, new AbortController().signal);
    });
    if (this.#isOver || found === undefined) return;
    this.#history.observe((fs) => acceptWholeState(fs, found));
    this.#diskTellsStable = true;
  }

  /** The clients are gone, nothing goes wrong any more: the jobs come to an end, and have lost and left nothing. */
  async #jobsEnd(): Promise<void> {
    this.#trace.add('run', 'waits for the jobs to come to an end');
    for (const { life } of this.#clients.values()) this.#endLife(life, 'killed');
    this.#clients.clear();
    await this.#untilMended();
    await this.#untilNothingIs((rows, stores) => {
      const open = this.#leaving?.open;
      return [...(open === undefined ? [] : [open]), ...whatIsLeft(rows, stores)];
    });
    if (this.#options.disksDie && !this.#isOver) await this.#readAll();
    if (this.#isOver) return;
    this.#trace.add('run', `the jobs are at their end: ${this.#judge.forgotten} chunks were forgotten`);
    await this.#lookAtAll();
  }

  async #inTime<T>(what: string, result: Promise<T>): Promise<T | undefined> {
    let outcome: { readonly value: T } | undefined;
    result.then(
      (value) => {
        outcome = { value };
      },
      (error: unknown) => this.breach(asError(error, what)),
    );
    await this.#until(what, () => outcome !== undefined, REST_WITHIN_MS);
    return outcome?.value;
  }

  /** Where disks die and rot: all that is stable has its replicas again, and what has rotted since was found (D8). */
  async #untilMended(): Promise<void> {
    if (!this.#losses.any) return;
    this.#trace.add('run', 'waits until what disks have lost is made good');
    // A pass may have begun before the last bit turned, and the one after it finds it.
    await this.#clock.advance(2 * this.#upkeep.settings.scrubPeriodSeconds * 1_000);
    await this.#untilNothingIs(wrongReplicas);
    this.#losses.repaired();
  }

  async #untilNothingIs(wrong: typeof whatIsLeft): Promise<void> {
    let left: string[] = ['nobody has looked yet'];
    const untilMs = this.#clock.elapsedMs + JOBS_WITHIN_MS;
    while (left.length > 0 && !this.#isOver) {
      if (this.#clock.elapsedMs > untilMs)
        throw new Error(
          `Not within ${JOBS_WITHIN_MS / 1000} s: ${left.length} things are left: ${left.slice(0, 20).join('; ')}; ${this.#coordinatorProgram.complaints}`,
        );
      await this.#clock.advance(JOBS_LOOK_MS);
      left = await this.#left(wrong);
    }
  }

  /** No bit that turned is left in what a disk holds. */
  async #readAll(): Promise<void> {
    for (const [node, { store }] of this.#nodePrograms) {
      if (store === undefined) continue;
      const bad = await this.#inTime(
        `all of node ${node} is read`,
        unreadable(store.list(undefined, ROWS_MAX), (chunk) => store.verify(chunk)),
      );
      if (bad !== undefined && bad.length > 0)
        throw new Error(`Node ${node} holds what cannot be read, and nobody has found it: ${bad.join(' ')}`);
    }
  }

  async #left(wrong: typeof whatIsLeft): Promise<string[]> {
    const { running } = this.#coordinatorProgram;
    if (running === undefined || !this.#machines.every((machine) => machine.serves)) return ['not all machines serve'];
    const rows = await this.#inTime('all rows are read', readRows(running.core.engine));
    if (rows === undefined) return ['the rows were not read'];
    const stores = [...this.#nodePrograms].flatMap(([node, { store }]) =>
      store === undefined ? [] : keptStore(node, DUTIES[running.nodes.get(node)?.row.duty ?? 0] ?? 'cordoned', store),
    );
    return wrong(rows, stores);
  }

  /** In some runs somebody takes the first node away. */
  #leavingNode([node]: readonly NodeName[]): LeavingNode | undefined {
    const { leaves } = this.#upkeep;
    if (leaves === undefined || node === undefined) return undefined;
    const machine = (): Machine => this.#machine(node);
    return new LeavingNode({
      node,
      plan: leaves,
      machine: {
        takeAway: () => machine().takeAway(),
        bringBack: () => machine().bringBack(),
        loseDisk: () => machine().diskDies(0),
      },
      stepsLeft: () => this.#stepsLeft,
      keepsDiskClosed: !this.#breaks.opensDisks,
      onEvent: (what) => this.#trace.add('administrator', what),
      onBreach: (error) => this.breach(error),
    });
  }

  #sleep(delayMs: number): Promise<void> {
    return sleep(this.#clock, delayMs);
  }

  async #until(what: string | (() => string), condition: () => boolean, withinMs: number): Promise<void> {
    const untilMs = this.#clock.elapsedMs + withinMs;
    while (!condition() && !this.#isOver) {
      if (this.#clock.elapsedMs > untilMs)
        throw new Error(`Not within ${withinMs / 1000} s: ${typeof what === 'string' ? what : what()}`);
      if (!(await this.#clock.step())) throw new Error('Nothing is left to happen');
    }
  }

  /** Does something through a session of its own, again and again while the member is not ready. */
  async #asObserver<T>(act: (member: Awaited<ReturnType<typeof connectClient>>) => Promise<T>): Promise<T | undefined> {
    const random = this.#streams(`observer ${++this.#observers}`);
    const life = this.#newLife('observer', random);
    const attempt = async (): Promise<T> => {
      for (;;) {
        try {
          const member = await connectClient(this.#network, life, random, new Breaks(), {
            caches: false,
            onLost: () => undefined,
            onReplayDiffers: () => undefined,
          });
          const result = await act(member);
          await member.close();
          return result;
        } catch (error) {
          if (!isUnknownOutcome(error)) throw error;
          this.#trace.add(life.name, `tries again: ${String(error)}`);
          await sleep(life.clock, 1_000);
        }
      }
    };
    let outcome: { readonly result: T } | { readonly error: unknown } | undefined;
    attempt().then(
      (result) => {
        outcome = { result };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    await this.#until('the observer is done', () => outcome !== undefined, REST_WITHIN_MS);
    this.#endLife(life, 'killed');
    if (outcome === undefined) return undefined;
    if ('error' in outcome) throw outcome.error;
    return outcome.result;
  }

  // ---- clients ----

  #startClient(name: string): void {
    const random = this.#streams(`client ${++this.#lifeNumber}`);
    const life = this.#newLife(`${name}#${this.#lifeNumber}`, random);
    const caches = randomBelow(random, 2) === 0;
    // A mount caches and is answered as soon as its changes are written; programs of the SDK wait until they are stable.
    const drawn: Durability = caches && randomBelow(random, 3) > 0 ? 'written' : 'stable';
    const durability = this.#saving ? 'written' : drawn;
    this.#trace.add(life.name, `starts, ${caches ? 'caches' : 'does not cache'}, ${durability}`);
    const client = new SimClient({
      life,
      random,
      trace: this.#trace,
      history: this.#history,
      caches,
      durability,
      saving: this.#saving,
      hasRealms: this.#realms.quota.quotaBytes + this.#realms.quota.quotaInodes + this.#realms.paths.length > 0,
      contentBytesMax: this.#realms.contentBytesMax,
      judge: this.#realmJudge,
      nowMs: () => this.#clock.elapsedMs,
      connect: (events) => connectClient(this.#network, life, random, this.#breaks, { caches, ...events }),
      drawId: () => `o${++this.#operationNumber}`,
      mayAct: () => {
        if (this.#roundLeft === 0) return false;
        this.#roundLeft--;
        this.#stepsLeft--;
        return true;
      },
      onAnswered: (changed, action) => {
        this.#lookAtDisks();
        if (changed && action === 'rename' && this.#afterRename !== undefined) {
          this.#clock.defer(this.#afterRename);
          this.#afterRename = undefined;
        }
        if (!changed || this.#afterAnswer === undefined) return;
        const happens = this.#afterAnswer;
        this.#afterAnswer = undefined;
        this.#clock.defer(() => happens(name));
      },
      onMetadataFull: (action, sinceMs) => this.#metadataFull(action, sinceMs),
      onBreach: (error) => this.breach(error),
    });
    this.#clients.set(name, { life, client });
    client.run();
  }

  /** That it takes nothing new is right while its disk is full, and until it has looked again. */
  #metadataFull({ do: what }: Action, sinceMs: number): void {
    const { fullUntilMs } = this.#coordinator;
    if (fullUntilMs + ROOM_SEEN_WITHIN_MS < sinceMs)
      this.breach(new Error(`${what} was refused for want of room, which is there since ${fullUntilMs} ms`));
  }

  #killClient(name: string, how: 'killed' | 'powerless'): void {
    const living = this.#clients.get(name);
    if (living === undefined) return;
    this.#trace.add(living.life.name, 'dies');
    this.#endLife(living.life, how);
    this.#history.clientDied(living.life.name);
    this.#clients.delete(name);
    this.#startClient(name);
  }

  #newLife(name: string, random: Random): Endpoint & { readonly clock: ProcessClock } {
    const clock = this.#clock.process({
      wallOffsetMs: randomBelow(random, 1_000),
      bootedForMs: randomBelow(random, 100_000),
    });
    return { name, uri: uriOf('client', 'any'), clock };
  }

  #endLife(life: Endpoint & { readonly clock: ProcessClock }, how: 'killed' | 'powerless'): void {
    life.clock.end();
    this.#network.died(life, how);
  }

  // ---- faults ----

  #do(fault: Fault): void {
    this.#faultCount++;
    this.#trace.add('fault', describe(fault));
    switch (fault.kind) {
      case 'kill':
        this.#machine(fault.machine).kill('by a fault', fault.downForMs);
        break;
      case 'power loss':
        this.#powerLoss([this.#machine(fault.machine)], fault.downForMs);
        break;
      case 'kill after an answer':
        this.#afterAnswer = () => this.#machine(fault.machine).kill('after an answer', fault.downForMs);
        break;
      case 'kill with the client after an answer':
        this.#afterAnswer = (client) => {
          this.#machine(fault.machine).kill('after an answer', fault.downForMs);
          this.#killClient(client, 'killed');
        };
        break;
      case 'power loss after an answer':
        this.#afterAnswer = () => this.#powerLoss([this.#machine(fault.machine)], fault.downForMs);
        break;
      case 'power loss everywhere':
        if (fault.clientsToo) for (const name of [...this.#clients.keys()]) this.#killClient(name, 'powerless');
        this.#powerLoss(this.#machines, fault.downForMs);
        break;
      case 'power loss of all nodes after a rename':
        this.#afterRename = () => {
          this.#powerLoss(this.#nodes, fault.downForMs);
          // What it left in doubt is looked at before the next one.
          this.#roundLeft = 0;
        };
        break;
      case 'stop before a disk change':
        this.#machine(fault.machine).stopBeforeChange(fault.changes);
        break;
      case 'sync fails':
        this.#machine(fault.machine).failNextSync();
        break;
      case 'disk dies':
        this.#nodeIsHurt(fault.node, (node) => node.diskDies(fault.downForMs));
        break;
      case 'bit rot':
        this.#nodeIsHurt(fault.node, (node) => node.rot(isChunkSegment));
        break;
      case 'node away':
        this.#machine(fault.node).goAway(fault.forMs);
        break;
      case 'disk full': {
        const machine = this.#machine(fault.machine);
        machine.fillDisk(fault.freeBytes);
        this.#clock.setTimer(fault.forMs, () => machine.makeRoom());
        break;
      }
      case 'slow disk': {
        const machine = this.#machine(fault.machine);
        machine.slowness = fault.times;
        this.#clock.setTimer(fault.forMs, () => {
          machine.slowness = undefined;
        });
        break;
      }
      case 'client dies':
        this.#killClient(pickOne(this.#random, this.#clientNames), 'killed');
        break;
      case 'partition':
        this.#network.partition(fault.a, fault.b, fault.forMs);
        break;
      case 'cut':
        this.#network.cut(fault.a, fault.b);
        break;
      case 'pause':
      case 'wall clock jumps': {
        const life = this.#processNamed(fault.process);
        if (life === undefined) break;
        if (fault.kind === 'pause') this.#network.pause(life, fault.forMs);
        else life.clock.jumpWall(fault.byMs);
        break;
      }
    }
  }

  /** What was stable stays on other nodes (D8); for what was only written the loss of a disk is as one of power. */
  #nodeIsHurt(name: string, hurt: (node: Machine) => void): void {
    this.#lookAtDisks();
    this.#losses.hurt(name);
    hurt(this.#machine(name));
    const put = this.#history.mayComeYet;
    this.#history.change((fs) => nodesLostPower(fs, put));
  }

  #powerLoss(machines: readonly Machine[], downForMs: number): void {
    this.#lookAtDisks();
    for (const machine of machines) machine.powerLoss(downForMs);
    if (machines.includes(this.#coordinator)) this.#coordinatorForgets();
    if (machines.some((machine) => this.#nodes.includes(machine))) {
      const put = this.#history.mayComeYet;
      this.#history.change((fs) => nodesLostPower(fs, put));
    }
  }

  /** What was not stable may be gone, from the end of its log backwards: by a loss of power, or after a sync that failed. */
  #coordinatorForgets(): void {
    this.#diskTellsStable = false;
    const alive = new Set([...this.#clients.values()].map(({ life }) => life.name));
    this.#history.lostPower((client) => alive.has(client));
  }

  /** After one lease the gate of the restart opens for those who are there (M6). */
  #coordinatorStarted(life: Endpoint): void {
    this.#clock.setTimer(PROMISE_LEASE_MS - GATE_TOLERANCE_MS, () => {
      if (this.#coordinator.life === life) this.#history.gateMayHaveOpened();
    });
  }

  /** Where nothing is unsynced, a power loss takes nothing. */
  #lookAtDisks(): void {
    const { platter } = this.#coordinator;
    if (this.#diskTellsStable && !this.#breaks.ignoresSyncs && platter.isStable) this.#history.allStable();
    if (this.#nodes.every((node) => node.platter.isStable)) this.#history.change(allSynced);
  }

  #machine(name: string): Machine {
    const machine = this.#machines.find((each) => each.name === name);
    if (machine === undefined) throw new Error(`There is no machine ${name}`);
    return machine;
  }

  #processNamed(name: string): (Endpoint & { readonly clock: ProcessClock }) | undefined {
    const client = [...this.#clients.values()].find(({ life }) => life.name === name);
    return client?.life ?? this.#machines.find((machine) => machine.name === name)?.life;
  }
}

function describe(fault: Fault): string {
  return Object.entries(fault)
    .map(([key, value]) =>
      key === 'kind' ? String(value) : `${key}=${typeof value === 'number' ? Math.round(value) : value}`,
    )
    .join(' ');
}
