/**
 * One pod as a process of the test: its container's command with its args and environment, on folders in the place of its
 * volumes and ports of the loopback in the place of its own. Identity files lie as kubelet lays them, behind one `..data` link
 * that is swapped; so hot reload is that of a cluster.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { SystemClock } from '@collective/base/system-clock';
import type { KubeObject } from './api-client.ts';
import { type ProbeRules, ReadinessProbe } from './readiness-probe.ts';

const COMMAND = join(import.meta.dirname, '../../cli/bin/collective');
const LOG_SHOWN_CHARACTERS = 3_000;
const KILL_AFTER_MS = 15_000;
const clock = new SystemClock();

export interface PodPlaces {
  readonly folder: string;
  /** Where the data of its claims lie, by the name of the volume in the pod. */
  readonly volumeFolders: ReadonlyMap<string, string>;
  readonly machine: string;
  readonly hostIp: string;
  /** Names and ports of the cluster -> those of the loopback. */
  local(text: string): string;
  /** Of a port of its container. */
  portOf(containerPort: number): number;
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly EnvVar[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly readinessProbe?: ProbeRules;
}

interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

export class PodProcess {
  readonly uid: string;
  readonly container: Container;
  readonly #places: PodPlaces;
  #child: ChildProcess | undefined;
  /** Of the process that runs now. */
  #readiness: ReadinessProbe | undefined;
  #files = '';
  #generation = 0;
  restarts = -1;

  constructor(pod: KubeObject, places: PodPlaces) {
    this.uid = pod.metadata.uid ?? '';
    this.container = (pod.spec as { containers: readonly [Container] }).containers[0];
    this.#places = places;
    mkdirSync(places.folder, { recursive: true });
    for (const folder of places.volumeFolders.values()) mkdirSync(folder, { recursive: true });
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Of a container that is not started again: how it ended. */
  get exitCode(): number | undefined {
    return this.#child?.exitCode ?? undefined;
  }

  get log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8').slice(-LOG_SHOWN_CHARACTERS) : '';
  }

  /** What it wrote as its message, else the end of its log if it failed (`FallbackToLogsOnError`). */
  lastWords(exitCode: number): string {
    const told = existsSync(this.#messageFile) ? readFileSync(this.#messageFile, 'utf8') : '';
    return told === '' && exitCode !== 0 ? this.log : told;
  }

  /** As kubelet: a folder of its own for each state of the volume, then one rename of `..data`. */
  writeIdentity(files: Readonly<Record<string, string>>): void {
    const text = JSON.stringify(files);
    if (text === this.#files) return;
    const folder = this.#tlsFolder;
    const fresh = `..${++this.#generation}`;
    mkdirSync(join(folder, fresh), { recursive: true });
    for (const [name, content] of Object.entries(files))
      writeFileSync(join(folder, fresh, name), content, { mode: 0o600 });
    symlinkSync(fresh, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    for (const name of Object.keys(files)) {
      if (!existsSync(join(folder, name))) symlinkSync(join('..data', name), join(folder, name));
    }
    this.#files = text;
  }

  start(): void {
    this.restarts++;
    const log = openSync(this.#logFile, 'a');
    const args = this.container.args.map((arg) => this.#inPlace(arg));
    this.#child = spawn(COMMAND, args, {
      stdio: ['ignore', log, log],
      env: this.#environment(),
      cwd: this.#places.folder,
    });
    closeSync(log);
    this.#readiness = this.#probe();
    const kill = (): void => void this.#child?.kill('SIGKILL');
    process.once('exit', kill);
    this.#child.once('exit', () => process.off('exit', kill));
  }

  /** Resolves when it has ended; after a while by force. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const force = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await ended;
    clearTimeout(force);
  }

  /** By the answers that have come so far; asks for the next when it is time. */
  isReady(): boolean {
    if (!this.isRunning || this.#readiness === undefined) return false;
    void this.#readiness.look();
    return this.#readiness.isReady;
  }

  get #logFile(): string {
    return join(this.#places.folder, 'log');
  }

  get #messageFile(): string {
    return join(this.#places.folder, 'message');
  }

  get #tlsFolder(): string {
    return join(this.#places.folder, 'tls');
  }

  #probe(): ReadinessProbe | undefined {
    const { readinessProbe: rules, ports = [] } = this.container;
    const port = ports.find(({ name }) => name === rules?.httpGet.port);
    if (rules === undefined || port === undefined) return undefined;
    const url = `http://127.0.0.1:${this.#places.portOf(port.containerPort)}${rules.httpGet.path}`;
    return new ReadinessProbe({ url, rules, clock });
  }

  #environment(): NodeJS.ProcessEnv {
    const own: Record<string, string> = { PATH: process.env.PATH ?? '' };
    for (const { name, value, valueFrom } of this.container.env ?? []) {
      const given = valueFrom === undefined ? (value ?? '') : this.#field(valueFrom.fieldRef.fieldPath);
      own[name] = this.#inPlace(given.replace(/\$\((\w+)\)/g, (_, variable: string) => own[variable] ?? ''));
    }
    return { ...own, HOME: this.#places.folder };
  }

  #field(path: string): string {
    return path === 'spec.nodeName' ? this.#places.machine : path === 'status.hostIP' ? this.#places.hostIp : '';
  }

  #inPlace(text: string): string {
    const { volumeFolders } = this.#places;
    // The longest first: one path may begin with another.
    const mounts = [...(this.container.volumeMounts ?? [])].sort((a, b) => b.mountPath.length - a.mountPath.length);
    const here = mounts
      .reduce((path, { name, mountPath }) => path.replaceAll(mountPath, volumeFolders.get(name) ?? mountPath), text)
      .replaceAll('/etc/collective/tls', this.#tlsFolder)
      .replaceAll('/dev/termination-log', this.#messageFile)
      .replace(/^:([0-9]+)$/, (_, port: string) => `127.0.0.1:${this.#places.portOf(Number(port))}`);
    return this.#places.local(here);
  }
}
