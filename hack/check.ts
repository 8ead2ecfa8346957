// `npm run check`: everything that judges the tree without running it. `npm run check -- layers types` runs only those.
// Each check prints one line, and below a failed one what was found and what to do. The last line counts them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { findHouseRuleBreaches, isRuledByTheHouse } from './check-house-rules.ts';
import { findLayerBreaches } from './check-layers.ts';
import { findUnwantedLicences, readInstalledLicence } from './check-licences.ts';
import { findLockFaults, type Lock } from './check-lock.ts';
import { type Finding, formatFinding, type SourceFile } from './finding.ts';
import { environmentOfThisNode, isGenerated, listFiles, REPOSITORY_ROOT } from './repository.ts';
import { heldRules, rulesWithoutTest, testFiles } from './rules-page.ts';

type Check = {
  readonly name: string;
  readonly remedy: string;
  /** Text of what is wrong; empty when all is well. */
  readonly run: () => Promise<string>;
};

const TOOL_DEADLINE_MS = 5 * 60_000;

const CHECKS: readonly Check[] = [
  {
    name: 'types',
    remedy: 'mend the types',
    run: () => tool('node_modules/typescript/bin/tsc', '--noEmit', '--pretty', 'false', '-p', '.'),
  },
  {
    name: 'lint',
    remedy: 'run "npm run format", mend the rest by hand',
    run: () =>
      tool(
        'node_modules/@biomejs/biome/bin/biome',
        'check',
        '--error-on-warnings',
        '--max-diagnostics=50',
        '--diagnostic-level=warn',
        '--colors=off',
        '.',
      ),
  },
  {
    name: 'unused',
    remedy: 'remove what nothing uses, list what is used in the package.json of its room',
    run: () => tool('node_modules/knip/bin/knip.js', '--no-progress', '--no-config-hints'),
  },
  {
    name: 'generated',
    remedy: 'run "npm run generate" and commit what changes',
    run: () => tool('hack/generate.ts', '--check'),
  },
  {
    name: 'layers',
    remedy: 'turn the dependency round or move the code, see ARCHITECTURE.md',
    run: async () => say(findLayerBreaches(await sources((path) => path.endsWith('.ts') && !isGenerated(path)))),
  },
  {
    name: 'licences',
    remedy: 'choose a dependency under one of the licences in hack/check-licences.ts',
    run: async () => say(findUnwantedLicences(readLock(), (path) => readInstalledLicence(REPOSITORY_ROOT, path))),
  },
  {
    name: 'lock',
    remedy: 'npm ci would refuse package-lock.json, or tie it to one registry',
    run: async () => say(findLockFaults(readLock())),
  },
  {
    name: 'rules',
    remedy: 'name the rule of docs/design.md in the title of the test that would catch its breach',
    run: async () => {
      const missing = rulesWithoutTest(heldRules(testFiles(await listFiles())));
      return missing.length === 0 ? '' : `No test names ${missing.join(', ')}`;
    },
  },
  {
    name: 'house-rules',
    remedy: 'see "Style in short" in CONTRIBUTING.md',
    run: async () => say(findHouseRuleBreaches(await sources(isRuledByTheHouse))),
  },
];

process.exitCode = await runChecks(process.argv.slice(2));

async function runChecks(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !CHECKS.some((check) => check.name === name));
  if (unknown.length > 0) {
    console.error(
      `No check is called ${unknown.join(', ')}; there are: ${CHECKS.map((check) => check.name).join(', ')}`,
    );
    return 2;
  }
  const chosen = CHECKS.filter((check) => names.length === 0 || names.includes(check.name));
  let failed = 0;
  for (const check of chosen) {
    const startMs = performance.now();
    const complaint = (await check.run()).trim();
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    if (complaint === '') {
      console.log(`ok      ${check.name} (${seconds} s)`);
      continue;
    }
    failed += 1;
    console.log(`failed  ${check.name} (${seconds} s): ${check.remedy}`);
    console.log(complaint.replaceAll(/^/gm, '        '));
  }
  console.log(`checks: ${chosen.length - failed} ok, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Runs a tool's entry file under this Node; silent when it succeeds. */
async function tool(entry: string, ...tail: string[]): Promise<string> {
  const result = await execa(process.execPath, [join(REPOSITORY_ROOT, entry), ...tail], {
    cwd: REPOSITORY_ROOT,
    env: environmentOfThisNode(),
    all: true,
    reject: false,
    timeout: TOOL_DEADLINE_MS,
  });
  if (!result.failed) return '';
  return result.all.trim() === '' ? `${entry}: ${result.shortMessage}` : result.all;
}

async function sources(wanted: (path: string) => boolean): Promise<SourceFile[]> {
  const paths = (await listFiles()).filter(wanted);
  return paths.map((path) => ({ path, text: readFileSync(join(REPOSITORY_ROOT, path), 'utf8') }));
}

function readLock(): Lock {
  return JSON.parse(readFileSync(join(REPOSITORY_ROOT, 'package-lock.json'), 'utf8')) as Lock;
}

function say(findings: readonly Finding[]): string {
  return findings.map(formatFinding).join('\n');
}
