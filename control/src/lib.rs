//! The control thread: model, socket, neighbours, kernel path, publishing.
