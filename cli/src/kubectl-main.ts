/** Where `kubectl collective` begins: kubectl finds `kubectl-collective` in the PATH, and the launcher comes here by that name. */
import './compile-cache.ts';

const [{ runProcess }, { KUBECTL_COLLECTIVE }] = await Promise.all([
  import('./command-process.ts'),
  import('./kubectl/kubectl-program.ts'),
]);
await runProcess(KUBECTL_COLLECTIVE);
