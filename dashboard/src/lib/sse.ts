/** Server-Sent Events over fetch: the parser of the stream, fed with text as it arrives.
 *
 * EventSource can't send an Authorization header, so the stream is read with fetch and parsed here, by the
 * rules of the HTML standard (section 9.2.6): lines end with LF, CR or CRLF; a blank line ends an event; a
 * leading byte order mark is dropped; a field's value loses one leading space; comments are counted as signs
 * of life. */

export interface ServerEvent {
  /** The stream's last id so far; what a reconnect sends as Last-Event-ID. */
  id: string;
  /** The event's name; "message" if the server gave none. */
  name: string;
  data: string;
}

export interface SseSink {
  onEvent(event: ServerEvent): void;
  /** A comment line: the server's way to say that it is still there. */
  onComment?(text: string): void;
  /** The server asks for this pause before a reconnect. */
  onRetry?(delayMs: number): void;
}

/** Characters that one event may have. A server of ours sends far less; anything more is a broken stream. */
export const EVENT_MAX_CHARS = 64 * 1024 * 1024;

export class StreamBroken extends Error {}

export class SseParser {
  #sink: SseSink;
  #rest = '';
  #started = false;
  /** The id that the next dispatch makes the stream's. */
  #nextId: string;
  #id: string;
  #name = '';
  #data: string[] = [];
  #size = 0;

  constructor(sink: SseSink, lastId = '') {
    this.#sink = sink;
    this.#id = lastId;
    this.#nextId = lastId;
  }

  /** The id of the last whole event, also of one that held nothing else (a heartbeat moves it on so). */
  get lastId(): string {
    return this.#id;
  }

  /** Take a piece of the stream, cut anywhere. Throws StreamBroken if an event has no end. */
  feed(piece: string): void {
    let text = this.#rest + piece;
    if (!this.#started && text !== '') {
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      this.#started = true;
    }
    let start = 0;
    for (;;) {
      const end = findLineEnd(text, start);
      if (end === -1) break;
      // A CR at the very end may be half of a CRLF: wait for the next piece.
      if (text[end] === '\r' && end + 1 === text.length) break;
      this.#line(text.slice(start, end));
      start = text[end] === '\r' && text[end + 1] === '\n' ? end + 2 : end + 1;
    }
    this.#rest = text.slice(start);
    if (this.#rest.length + this.#size > EVENT_MAX_CHARS) throw new StreamBroken('an event has no end');
  }

  #line(line: string): void {
    if (line === '') {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) {
      this.#sink.onComment?.(line.slice(1).trimStart());
      return;
    }
    const field = colon === -1 ? line : line.slice(0, colon);
    let value = colon === -1 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length + 1;
    } else if (field === 'event') {
      this.#name = value;
    } else if (field === 'id' && !value.includes('\0')) {
      this.#nextId = value;
    } else if (field === 'retry' && /^\d+$/.test(value)) {
      this.#sink.onRetry?.(Number(value));
    }
  }

  #dispatch(): void {
    this.#id = this.#nextId;
    const name = this.#name || 'message';
    const lines = this.#data;
    this.#name = '';
    this.#data = [];
    this.#size = 0;
    if (lines.length > 0) this.#sink.onEvent({ id: this.#id, name, data: lines.join('\n') });
  }
}

function findLineEnd(text: string, from: number): number {
  const lf = text.indexOf('\n', from);
  const cr = text.indexOf('\r', from);
  if (lf === -1) return cr;
  return cr === -1 ? lf : Math.min(lf, cr);
}
