/**
 * A part's log file of bounded size: at its limit it becomes `<name>.1`, the one before that is dropped. Also remembers
 * the last lines, so that the reason of an unexpected end can be shown without opening the file.
 *
 * A log that cannot be written (a full disk) loses lines, and says later how much; what it is the log of goes on.
 */
import { type FileHandle, open, rename } from 'node:fs/promises';
import type { Readable } from 'node:stream';

export const LOG_FILE_BYTES_MAX = 10 * 1024 * 1024;
const LAST_LINES_MAX = 40;
const LINE_CHARACTERS_MAX = 4_000;

export class RotatingLog {
  readonly #path: string;
  readonly #bytesMax: number;
  #file: FileHandle | undefined;
  #lostBytes = 0;
  #sizeBytes: number;
  #lastLines: string[] = [];
  #lineBegun = '';

  static async open(path: string, bytesMax = LOG_FILE_BYTES_MAX): Promise<RotatingLog> {
    const file = await open(path, 'a', 0o600);
    return new RotatingLog(path, bytesMax, file, (await file.stat()).size);
  }

  private constructor(path: string, bytesMax: number, file: FileHandle, sizeBytes: number) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
  }

  /** Takes all of a stream; the process behind it waits while the disk is slow. */
  async drain(from: Readable): Promise<void> {
    for await (const piece of from) await this.write(piece as Buffer);
  }

  async write(piece: Buffer): Promise<void> {
    this.#remember(piece.toString());
    try {
      if (this.#sizeBytes > 0 && this.#sizeBytes + piece.length > this.#bytesMax) await this.#rotate();
      this.#file ??= await open(this.#path, 'a', 0o600);
      if (this.#lostBytes > 0) {
        await this.#append(Buffer.from(`${this.#lostBytes} bytes of this log could not be written\n`));
        this.#lostBytes = 0;
      }
      await this.#append(piece);
    } catch {
      this.#lostBytes += piece.length;
    }
  }

  /** What was written last, oldest first. */
  lastLines(): readonly string[] {
    return this.#lineBegun === '' ? this.#lastLines : [...this.#lastLines, this.#lineBegun];
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  async #append(bytes: Buffer): Promise<void> {
    await this.#file?.appendFile(bytes);
    this.#sizeBytes += bytes.length;
  }

  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    await rename(this.#path, `${this.#path}.1`);
    this.#sizeBytes = 0;
  }

  #remember(text: string): void {
    const lines = (this.#lineBegun + text).split('\n');
    this.#lineBegun = (lines.pop() ?? '').slice(0, LINE_CHARACTERS_MAX);
    this.#lastLines = [...this.#lastLines, ...lines.map((line) => line.slice(0, LINE_CHARACTERS_MAX))].slice(
      -LAST_LINES_MAX,
    );
  }
}
