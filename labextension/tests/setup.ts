/** What browsers have and jsdom has not. */

class Observer {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}

const media = { matches: false, addEventListener: (): void => {}, addListener: (): void => {} };

Object.assign(globalThis, { DragEvent: class extends Event {}, ResizeObserver: Observer, matchMedia: () => media });
Object.assign(window, { matchMedia: () => media });
