/**
 * Members without Kubernetes: what `examples/compose/` holds and what the generator prints is brought up by Compose and used from
 * the machine below it, through the published ports, with nothing but the commands of the page that leads through it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { connect, type Member } from '@collective/client';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { ensureDocker } from '@collective/hack/kind/docker-daemon';
import { docker } from '@collective/hack/kind/lab';
import { freePorts } from '../../integration/free-ports.ts';
import { seededBytes, seededFile, sha256Of } from '../../integration/random-file.ts';
import { until } from '../../until.ts';
import { ComposeProject } from '../compose-project.ts';

const ROOT = join(import.meta.dirname, '../../..');
const FILE_BYTES = 100 * 1024 * 1024;
const SMALL_BYTES = 1024 * 1024;
const FILES_EACH = 5;
const PROGRESS_WITHIN_MS = 240_000;
const REPORTED_WITHIN_MS = 60_000;
const NAMES = ['alice', 'bob', 'carol'];

/** Two trees may run this file on one machine. */
const mark = createHash('sha256').update(ROOT).digest('hex').slice(0, 6);
const running = new AsyncDisposableStack();
let folder: string;
let image: string;
let members: ComposeProject;
let shown: ComposeProject;

before(async () => {
  await ensureDocker(console.log);
  const { tag } = await ensureProductImage(console.log);
  // A name that no other tree gives to another image meanwhile.
  image = `collective-e2e-${mark}:now`;
  await docker(['tag', tag, image]);
  running.defer(async () => void (await docker(['image', 'rm', image], { mayFail: true })));
  folder = mkdtempSync(join(tmpdir(), 'compose-'));
  running.defer(() => rm(folder, { recursive: true, force: true }));
  const example = join(ROOT, 'examples/compose/three-member/compose.yaml');
  members = running.use(await ComposeProject.open(`collective-three-${mark}`, example));
  members.useImage(image);
  shown = members;
});
after(() => running.disposeAsync());
afterEach(async (context) => {
  if ('passed' in context && context.passed === false) console.log((await shown.logs()).slice(-20_000));
});

test('T3: three members come up from one file, nodes enrol by themselves, and one command makes a context of each', async () => {
  await members.up();
  for (const name of NAMES) await members.becomeAdministrator(name);
  await members.untilReady();
  const roots = new Set<string>();
  for (const name of NAMES) {
    const status = JSON.parse(await members.person.ok(['status', '--context', name, '--output', 'json'])) as {
      member: string;
      certificates: { kind: string; fingerprint?: string; subject: string }[];
    };
    assert.equal(status.member, name);
    roots.add(
      await members.exec(`${name}-coordinator`, 'node', '-p', readOf('/var/lib/collective/coordinator/tls/trust.pem')),
    );
  }
  assert.equal(roots.size, NAMES.length, 'each has an authority of its own');
});

test('every container runs confined as the file says, and its port is open on this machine alone', async () => {
  for (const service of Object.keys(members.services)) {
    const { details } = await members.container(service);
    const { HostConfig: host, Config: config } = details;
    assert.equal(config.User, '65532:65532', service);
    assert.equal(host.ReadonlyRootfs, true, service);
    assert.equal(host.Privileged, false, service);
    assert.deepEqual(host.CapDrop, ['ALL'], service);
    assert.deepEqual(host.SecurityOpt, ['no-new-privileges:true'], service);
    assert.ok(host.Memory > 0 && host.PidsLimit > 0, service);
    assert.equal(host.RestartPolicy.Name, 'unless-stopped', service);
    const ports = Object.values(host.PortBindings).flat();
    assert.deepEqual(
      ports.map(({ HostIp }) => HostIp),
      ['127.0.0.1'],
      service,
    );
  }
});

test('each part says of itself that it is healthy, with nothing but what is in the image', async () => {
  await members.untilHealthy();
});

test('T3: secrets are readable by the user of the parts alone, and stand in no log', async () => {
  const modes = `process.argv.slice(1).map((path) => (require('fs').statSync(path).mode & 0o777).toString(8)).join()`;
  const secrets = [
    '/var/lib/collective/coordinator/ca/ca.key',
    '/var/lib/collective/coordinator/tls/tls.key',
    '/run/collective',
  ];
  assert.equal((await members.exec('alice-coordinator', 'node', '-p', modes, ...secrets)).trim(), '600,600,700');
  const logs = await members.logs();
  assert.match(logs, /node invited/);
  assert.doesNotMatch(logs, /col1-|BEGIN [A-Z ]*KEY/);
});

test('D10: 100 MiB go into each member and come back through the published ports of its nodes', async () => {
  for (const [seed, name] of NAMES.entries()) {
    await using session = await members.connect(name);
    await session.files.write('/large', seededBytes(seed, FILE_BYTES));
    assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(seed, FILE_BYTES)));
    // What a node holds is told with its heartbeats.
    await until(
      async () => {
        const { nodes } = await session.admin.status();
        return nodes.length === 2 && nodes.every(({ chunks }) => chunks > 0);
      },
      'replicas lie on both nodes',
      REPORTED_WITHIN_MS,
    );
  }
});

test("T1: alice's certificate is refused by bob, and her containers do not see his", async () => {
  const alice = await members.contextOf('alice');
  const bob = await members.contextOf('bob');
  const asAlice = { coordinator: bob.coordinator, credentials: alice.credentials, connectWithinMs: 10_000 };
  await assert.rejects(
    connect({ ...asAlice, trustDomain: 'bob.home' }),
    { code: 'wrong_member' },
    'her own program does not even try',
  );
  await assert.rejects(
    connect({ ...asAlice, trustDomain: 'alice.home' }),
    { code: 'unauthenticated' },
    'and where she takes him for her own coordinator, neither believes the other',
  );

  const resolve = `require('dns').lookup(process.argv[1], (error) => console.log(error ? error.code : 'found'))`;
  const look = async (name: string) => (await members.exec('alice-node-1', 'node', '-e', resolve, name)).trim();
  assert.equal(await look('alice-coordinator'), 'found');
  assert.match(await look('bob-coordinator'), /^(ENOTFOUND|EAI_AGAIN)$/);

  const { details } = await members.container('bob-coordinator');
  const [network] = Object.values(details.NetworkSettings.Networks);
  assert.ok(network !== undefined);
  const dial = `
    const socket = require('net').connect({ host: process.argv[1], port: 7420, timeout: 3000 });
    socket.on('connect', () => { console.log('connected'); process.exit(0); });
    socket.on('timeout', () => { console.log('no answer'); process.exit(0); });
    socket.on('error', ({ code }) => { console.log(code); process.exit(0); });
  `;
  const dialled = (await members.exec('alice-node-1', 'node', '-e', dial, network.IPAddress)).trim();
  assert.notEqual(dialled, 'connected');
});

test('M5: coordinator and nodes crash and are restarted during a write; the writer goes on, and nothing is lost', async () => {
  await using session = await members.connect('alice');
  const writer = new Writer(session);
  try {
    await writer.progress(FILES_EACH);
    for (const blow of [
      () => members.crash('alice-coordinator'),
      () => members.crash('alice-node-1'),
      async () => await docker(['restart', (await members.container('alice-coordinator')).id]),
      async () => await docker(['restart', (await members.container('alice-node-2')).id]),
    ]) {
      await blow();
      await writer.progress(FILES_EACH);
    }
  } finally {
    await writer.end();
  }
  await members.untilReady();
  await writer.compare(session);
});

test('down and up, and another version of the image, keep all data and ask nobody to enrol again', async () => {
  await members.compose(['down']);
  const volumes = await members.leftovers();
  assert.ok(volumes.length > 0 && volumes.every((line) => line.startsWith('volume ')), volumes.join());
  await members.up();
  await members.untilReady();
  const compare = async (): Promise<void> => {
    await using session = await members.connect('bob');
    assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(1, FILE_BYTES)));
  };
  await compare();

  const next = `collective-e2e-${mark}:next`;
  await docker(['tag', image, next]);
  try {
    members.useImage(next);
    await members.up();
    assert.equal((await members.container('bob-node-1')).details.Config.Image, next);
    await members.untilReady();
    await compare();
  } finally {
    members.useImage(image);
    await members.up();
    await docker(['image', 'rm', next]);
  }
  await members.untilReady();
});

test('M2a, D9: a lost coordinator is restored from a backup into its volume, and every byte is there', async () => {
  const backup = join(folder, 'carol.backup');
  const authority = join(folder, 'carol-ca');
  const { id } = await members.container('carol-coordinator');
  await docker(['cp', `${id}:/var/lib/collective/coordinator/ca`, authority]);
  await members.person.ok(['backup', 'create', backup, '--context', 'carol', '--authority', authority]);

  await members.compose(['stop', 'carol-coordinator']);
  // What is left of a lost coordinator goes aside; the volume is the place that is restored into.
  const inVolume = ['run', '--rm', '--no-deps', '-T'];
  const aside = `require('fs').renameSync('/var/lib/collective/coordinator', '/var/lib/collective/coordinator.broken')`;
  await members.compose([...inVolume, '--entrypoint', 'node', 'carol-coordinator', '-e', aside]);
  const restore = ['backup', 'restore', '-', '--data', '/var/lib/collective/coordinator'];
  await members.compose([...inVolume, 'carol-coordinator', ...restore], { inputFile: backup });
  await members.up();
  await members.untilReady();
  await using session = await members.connect('carol');
  assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(2, FILE_BYTES)));
});

test('D10: a node whose volume was lost is invited anew once it was removed, and filled from the other replica', async () => {
  const volume = `${members.name}_alice-node-2`;
  await members.compose(['rm', '--stop', '--force', 'alice-node-2']);
  await docker(['volume', 'rm', volume]);
  await members.person.ok(['nodes', 'remove', 'node-2', '--force', '--context', 'alice']);
  await members.compose(['restart', 'alice-coordinator']);
  await members.up();
  await members.untilReady();
  await using session = await members.connect('alice');
  let seen = '';
  await until(
    async () => {
      const { nodes, replication } = await session.admin.status();
      seen = JSON.stringify({ chunks: nodes.map(({ chunks }) => chunks), replication });
      const [one, two] = nodes.map(({ chunks }) => chunks);
      return one !== undefined && one > 0 && one === two;
    },
    'both nodes hold every chunk',
    PROGRESS_WITHIN_MS,
    () => seen,
  );
  assert.equal(await sha256Of(session.files.read('/large')), await sha256Of(seededBytes(0, FILE_BYTES)));
});

test('down --volumes leaves nothing', async () => {
  await members.compose(['down', '--volumes']);
  assert.deepEqual(await members.leftovers(), []);
});

test('the generator makes members of any number: two with three nodes each, on ports of their own', async () => {
  const [port] = await freePorts(1);
  const flags = ['--members', 'home,office', '--nodes', '3', '--capacity', '1GiB', '--port-base', String(port)];
  const { stdout } = await docker(['run', '--rm', image, 'compose', 'generate', '--image', image, ...flags]);
  const file = join(folder, 'compose.yaml');
  writeFileSync(file, `${String(stdout)}\n`);
  const project = running.use(await ComposeProject.open(`collective-two-${mark}`, file));
  shown = project;
  assert.deepEqual(project.members, ['home', 'office']);
  await project.up();
  for (const name of project.members) await project.becomeAdministrator(name);
  await project.untilReady();
  for (const [seed, name] of project.members.entries()) {
    assert.equal(project.nodesOf(name).length, 3);
    await using session = await project.connect(name);
    await session.files.write('/file', seededBytes(seed, SMALL_BYTES));
    assert.equal(await sha256Of(session.files.read('/file')), await sha256Of(seededBytes(seed, SMALL_BYTES)));
  }
  await project.compose(['down', '--volumes']);
  assert.deepEqual(await project.leftovers(), []);
});

test('the example of one member on one machine is a file that Compose takes', async () => {
  const example = join(ROOT, 'examples/compose/single-node/compose.yaml');
  const project = running.use(await ComposeProject.open(`collective-single-${mark}`, example));
  project.useImage(image);
  shown = project;
  await project.up();
  await project.becomeAdministrator('alice');
  await project.untilReady();
  await project.person.ok(['write', '/hello'], { stdin: 'hello' });
  assert.equal(await project.person.ok(['cat', '/hello']), 'hello');
});

/** Somebody who stores one file after the other until told to stop. */
class Writer {
  readonly #done: Promise<void>;
  #written = 0;
  #isOver = false;
  #failure: unknown;

  constructor({ files }: Member) {
    this.#done = (async () => {
      while (!this.#isOver) {
        await files.write(`/file-${this.#written}`, seededFile(this.#written, SMALL_BYTES));
        this.#written++;
      }
    })().catch((thrown: unknown) => {
      this.#failure = thrown;
    });
  }

  async progress(files: number): Promise<void> {
    const goal = this.#written + files;
    await until(
      () => {
        if (this.#failure !== undefined) throw this.#failure;
        return this.#written >= goal;
      },
      `${files} more files are written`,
      PROGRESS_WITHIN_MS,
      () => `${this.#written} files`,
    );
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }

  async compare({ files }: Member): Promise<void> {
    assert.equal(this.#failure, undefined);
    for (let number = 0; number < this.#written; number++) {
      const read = await files.readAll(`/file-${number}`);
      assert.ok(seededFile(number, SMALL_BYTES).equals(read), `file ${number} of ${this.#written}`);
    }
  }
}

function readOf(path: string): string {
  return `require('fs').readFileSync('${path}', 'utf8')`;
}
