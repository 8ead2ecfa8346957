// `hack/node hack/kind/cluster-down.ts [--docker]`: removes the lab's cluster and its volumes; with --docker it also ends the
// docker that cluster-up started, and only that one.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { stopDocker } from './docker-daemon.ts';
import { CLUSTER, kind, kubeconfigFile, labFolder } from './lab.ts';
import { runProgram } from './program.ts';

await runProgram(async () => {
  const { values } = parseArgs({ options: { docker: { type: 'boolean', default: false } } });
  await kind(['delete', 'cluster', '--name', CLUSTER]);
  rmSync(join(labFolder(), 'shared-volumes'), { recursive: true, force: true });
  rmSync(kubeconfigFile(), { force: true });
  console.log(`cluster ${CLUSTER} removed`);
  if (values.docker) console.log(stopDocker() ? 'docker ended' : 'docker was not started by the lab: left alone');
});
