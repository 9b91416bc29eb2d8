/** The version of this front end, which must be the server's; a test holds it to the package's. */

export const VERSION = '0.1.0';
