#include "app.h"

int main(int argc, char** argv) { return molar::cli::run_program({argv + 1, argv + argc}); }
