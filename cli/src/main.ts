/** Where `collective` begins. */
import './compile-cache.ts';

const { runProcess } = await import('./command-process.ts');
await runProcess();
