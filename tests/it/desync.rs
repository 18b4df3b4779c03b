//! Messages that two readers could take for different ones, from either side: each is refused, or goes on in a form that
//! leaves no doubt. What backends receive is read by a reader stricter than any server.

mod http2;
mod requests;
mod responses;
mod site;
mod strict;
