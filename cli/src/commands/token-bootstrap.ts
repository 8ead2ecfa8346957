/**
 * `collective token bootstrap`: the invitation of a member's first administrator, made of what a coordinator that was started
 * alone has written into its folder; with `--again` that of a further one, which a coordinator that runs makes for whoever may
 * write there. In a container, by `exec`. It waits for a coordinator that starts, so that both may be typed one after the other.
 */

import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { sleep } from '@collective/base/clock';
import { fileError } from '@collective/base/disk/file-error';
import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import type { Command } from 'commander';
import { environmentOf, type HostPort, hostPort } from '../settings/settings.ts';
import { type Shell, writeOut } from '../shell.ts';
import { duration, flag, IDLE_WITHOUT_DATA, verb } from '../verb.ts';

interface BootstrapOptions {
  readonly data?: string;
  readonly advertise?: HostPort;
  readonly again?: boolean;
  readonly user: string;
  readonly wait: number;
}

interface Admitted {
  readonly user: string;
  readonly token: string;
}

/** As the coordinator names the first one. */
const FIRST_USER = 'admin';
const WAIT_DEFAULT_MS = 15_000;
const LOOK_EVERY_MS = 100;

export function tokenBootstrap(shell: Shell): Command {
  return verb('bootstrap', {
    summary: "print the invitation of the first administrator, where the coordinator's data lies",
    description: `A coordinator that nobody administers yet has a one-time token for user/admin in its data folder. This prints it as an
invitation for 'collective init --invitation -'. Settings are taken from the environment where flags are missing, as the
coordinator takes them. With --again a coordinator that runs lets in whoever may write its data folder, although others
administer the member: for when the last context was lost. It is told as an event.`,
    examples: [
      {
        line: 'collective token bootstrap --data /srv/alice --advertise alice.example:7420 | collective init --invitation -',
        says: 'on one machine',
      },
      {
        line: 'docker compose exec -T alice-coordinator collective token bootstrap | collective init --invitation -',
        says: 'out of a container',
      },
      {
        line: 'collective token bootstrap --again --user anna --data /srv/alice --advertise alice.example:7420 > anna.invitation',
        says: 'no context is left that could let anybody in',
      },
    ],
    idle: IDLE_WITHOUT_DATA,
  })
    .option('--data <dir>', `data folder of the coordinator  [${environmentOf('data')}]`)
    .option(
      '--advertise <host:port>',
      `where people reach the coordinator; --coordinator of init says it else  [${environmentOf('advertise')}]`,
      flag((text) => hostPort(text, '--advertise')),
    )
    .option('--again', 'ask the coordinator that runs for a new token, whoever administers the member')
    .option('--user <name>', 'with --again: the administrator that is let in', FIRST_USER)
    .addOption(duration('--wait <duration>', 'how long to wait for a coordinator that starts', WAIT_DEFAULT_MS))
    .action(async ({ data = shell.env[environmentOf('data')], advertise, again, user, wait }: BootstrapOptions) => {
      if (data === undefined || data === '')
        throw new CollectiveError(
          'invalid_argument',
          `Print the first invitation: --data DIR is missing (or ${environmentOf('data')})`,
        );
      if (again !== true && user !== FIRST_USER)
        throw new CollectiveError(
          'invalid_argument',
          `Print the invitation of ${user}: the first administrator is ${FIRST_USER}; --user goes with --again`,
        );
      const folder = resolve(shell.cwd, data);
      const admitted =
        again === true
          ? await askAgain(shell, folder, user, wait)
          : { user: FIRST_USER, token: await waitForToken(shell, folder, wait) };
      const [{ readTrustPems }, { parseTrustSet }, { formatInvitation }] = await Promise.all([
        import('@collective/protocol/tls/trust-files'),
        import('@collective/protocol/tls/trust-set'),
        import('@collective/protocol/tls/invitation'),
      ]);
      const trustFolder = join(folder, 'tls');
      const { id, bundlePem } = parseTrustSet(await readTrustPems(trustFolder), trustFolder);
      const address = advertise ?? advertisedHere(shell);
      const coordinator = address === undefined ? {} : { coordinator: formatHostPort(address) };
      const { trustDomain } = id;
      await writeOut(
        shell.stdout,
        formatInvitation({
          ...{ trustDomain, role: 'user', name: admitted.user, token: admitted.token, bundlePem },
          ...coordinator,
        }),
      );
    });
}

function advertisedHere({ env }: Shell): HostPort | undefined {
  const name = environmentOf('advertise');
  const text = env[name];
  return text === undefined || text === '' ? undefined : hostPort(text, name);
}

async function waitForToken(shell: Shell, folder: string, waitMs: number): Promise<string> {
  const file = join(folder, 'bootstrap-token');
  const startedMs = shell.clock.bootMs();
  for (;;) {
    try {
      return (await readFile(file, 'utf8')).trim();
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(`Read ${file}`, thrown);
    }
    if (shell.clock.bootMs() - startedMs >= waitMs)
      throw new CollectiveError(
        'not_found',
        `Print the first invitation: there is no ${file}. Either somebody administers the member already ('collective token create --admin' lets others in; if no context is left, --again does), or its coordinator has not started`,
      );
    await sleep(shell.clock, LOOK_EVERY_MS, shell.signal);
  }
}

/** The wish is taken back when nobody answers: a coordinator that starts later must not let in somebody who has left. */
async function askAgain(shell: Shell, folder: string, user: string, waitMs: number): Promise<Admitted> {
  const files = await import('@collective/coordinator/readmission-files');
  await files.layWish(folder, user);
  const startedMs = shell.clock.bootMs();
  try {
    for (;;) {
      const answer = await files.readAnswer(folder);
      if (answer !== undefined && answer.user === user) {
        await files.removeAnswer(folder);
        if (answer.refusal === undefined) return answer;
        throw new CollectiveError('invalid_argument', `Let ${user} in again: ${answer.refusal}`);
      }
      if (shell.clock.bootMs() - startedMs >= waitMs)
        throw new CollectiveError(
          'unavailable',
          `Let ${user} in again: no coordinator that runs on ${folder} answered within ${waitMs} ms. Start it, or wait longer: --wait 1m`,
        );
      await sleep(shell.clock, LOOK_EVERY_MS, shell.signal);
    }
  } finally {
    await files.removeWish(folder);
  }
}
