"""What tests share: servers, clips, collections, corpora."""
