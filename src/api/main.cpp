// The main of a program that m3i::api holds (M3I_PROGRAM names it; see CMakeLists.txt).

int M3I_PROGRAM(int argc, char** argv);

int main(int argc, char** argv) { return M3I_PROGRAM(argc, argv); }
