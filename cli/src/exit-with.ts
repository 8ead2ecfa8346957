/** Ends a command that has said all there is to say, with an exit code of its own. */
export class ExitWith extends Error {
  override readonly name = 'ExitWith';
  readonly exit: number;

  constructor(exit: number) {
    super(`Exit with ${exit}`);
    this.exit = exit;
  }
}
