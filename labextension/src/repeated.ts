/** Work that is asked for again and again: done one at a time, with a rest in between, and once more after the last. */

const REST_MS = 250; // while a kernel logs, its store changes ten times a second

export interface Repeated {
  /** Do it as soon as may be. */
  again(): void;
  /** Do it no more. */
  end(): void;
}

/** Make repeated work of an act; the first time is at once. */
export function repeated(act: () => Promise<void>, restMs = REST_MS): Repeated {
  let isBusy = false;
  let isDue = false;
  let isOver = false;
  const work = async (): Promise<void> => {
    isBusy = true;
    while (isDue && !isOver) {
      isDue = false;
      await act();
      await new Promise(resolve => setTimeout(resolve, restMs));
    }
    isBusy = false;
  };
  return {
    again: () => {
      isDue = true;
      isBusy || void work();
    },
    end: () => {
      isOver = true;
    }
  };
}
