/** The current address, and moves between addresses. */

import { parseRoute, type Route } from './route';

class Router {
  route = $state.raw<Route>(parseRoute(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.route = parseRoute(location.hash)));
  }

  go(href: string): void {
    location.hash = href;
  }

  /** Change the address without a step in the browser's history: a filter that is being typed. */
  replace(href: string): void {
    history.replaceState(history.state, '', href);
    this.route = parseRoute(location.hash);
  }
}

export const router = new Router();
